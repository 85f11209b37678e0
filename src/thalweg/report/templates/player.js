(() => {
  const root = document.getElementById("PLAYER_ID");
  const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const svg = root.querySelector("svg"), box = svg.viewBox.baseVal;
  const slider = root.querySelector("input"), button = root.querySelector("button");
  const output = root.querySelector("output"), cells = [...root.querySelectorAll("td[data-loss]")];
  const last = data.steps;
  const make = (name, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return svg.appendChild(node);
  };
  const line = (colour, width, dash) => make("polyline", {fill: "none", stroke: colour,
    "stroke-width": width, "stroke-dasharray": dash, "stroke-linejoin": "round"});
  for (const node of svg.querySelectorAll("[id*='whole-']")) node.style.display = "none";
  const halos = data.paths.map(() => line("var(--paper)", 4, "none"));
  halos.forEach((node) => node.setAttribute("stroke-opacity", 0.7));
  const actors = data.paths.map((path, k) => ({
    path, halo: halos[k],
    trail: line(`var(--${path.tone})`, 2, path.dash),
    grown: line(`var(--${path.tone})`, 1.8, "none"),
  }));
  for (const actor of actors) {
    actor.head = make("circle", {r: 4.6, fill: `var(--${actor.path.tone})`,
      stroke: "var(--paper)", "stroke-width": 1.2});
  }
  const shown = (value) => value === null ? "–" : Number(value.toPrecision(4)).toString();
  const mix = (a, b, t) => a === null || b === null ? null : a + t * (b - a);
  const draw = (share) => {
    const step = data.pace === "log" ? Math.expm1(share * Math.log1p(last)) : share * last;
    actors.forEach(({path, halo, trail, grown, head}, k) => {
      let i = 0;
      while (i + 1 < path.steps.length && path.steps[i + 1] <= step) i += 1;
      const next = Math.min(i + 1, path.steps.length - 1), gap = path.steps[next] - path.steps[i];
      const t = gap > 0 ? Math.min(1, (step - path.steps[i]) / gap) : 0;
      const at = (points) => {
        const here = points[i], there = points[next];
        const end = here && there ? [mix(here[0], there[0], t), mix(here[1], there[1], t)] : here;
        return [...points.slice(0, i + 1), end].filter((point) => point !== null);
      };
      const write = (points) =>
        points.map(([x, y]) => `${(x * box.width).toFixed(2)},${(y * box.height).toFixed(2)}`).join(" ");
      const walked = at(path.xy);
      halo.setAttribute("points", write(walked));
      trail.setAttribute("points", write(walked));
      grown.setAttribute("points", write(at(path.curve)));
      if (walked.length) {
        head.setAttribute("cx", walked.at(-1)[0] * box.width);
        head.setAttribute("cy", walked.at(-1)[1] * box.height);
      }
      cells[k].textContent = shown(mix(path.loss[i], path.loss[next], t));
    });
    output.textContent = `step ${Math.round(step).toLocaleString("en")}`;
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  let playing = false, before = 0;
  const set = (on) => {
    playing = on;
    button.textContent = on ? "Pause" : "Play";
    if (on) { before = performance.now(); requestAnimationFrame(tick); }
  };
  const tick = (now) => {
    if (!playing) return;
    const share = Math.min(1, slider.value / slider.max + (now - before) / (1000 * data.seconds));
    before = now;
    slider.value = share * slider.max;
    draw(share);
    if (share >= 1) set(false); else requestAnimationFrame(tick);
  };
  const toggle = () => {
    if (!playing && Number(slider.value) >= Number(slider.max)) slider.value = 0;
    set(!playing);
  };
  button.addEventListener("click", toggle);
  slider.addEventListener("input", () => { set(false); draw(slider.value / slider.max); });
  root.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target !== button) { event.preventDefault(); toggle(); }
  });
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  slider.value = still ? slider.max : 0;
  draw(still ? 1 : 0);
  if (data.autoplay && !still) set(true);
})();
