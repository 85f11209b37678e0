(() => {
  const root = document.getElementById("PLOT_ID"), plot = root.querySelector(".plot");
  const figures = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const buttons = [...root.querySelectorAll("button")], select = root.querySelector("select");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let view = "space", metric = Object.keys(figures)[0];
  const themed = (layout) => {
    const style = getComputedStyle(document.documentElement);
    const tone = (name) => style.getPropertyValue("--" + name).trim();
    const axis = {color: tone("ink"), gridcolor: tone("rule"), zerolinecolor: tone("rule"),
      linecolor: tone("rule"), backgroundcolor: tone("paper"), showbackground: false};
    const flat = {color: tone("ink"), gridcolor: tone("grid"), linecolor: tone("rule")};
    const own = structuredClone(layout);
    Object.assign(own, {paper_bgcolor: tone("paper"), plot_bgcolor: tone("paper"),
      font: {color: tone("ink"), family: style.getPropertyValue("--sans"), size: 13}});
    if (own.scene) for (const key of ["xaxis", "yaxis", "zaxis"]) Object.assign(own.scene[key], axis);
    else for (const key of ["xaxis", "yaxis"]) Object.assign(own[key], flat);
    return own;
  };
  const draw = () => {
    const figure = figures[metric][view];
    Plotly.react(plot, structuredClone(figure.data), themed(figure.layout), {responsive: true, displaylogo: false,
      plotlyServerURL: "", modeBarButtonsToRemove: ["sendDataToCloud", "lasso2d", "select2d"]});
    root.querySelector(".note").textContent = figure.layout.meta.note;
  };
  for (const button of buttons) button.addEventListener("click", () => {
    view = button.dataset.view;
    for (const other of buttons) other.setAttribute("aria-pressed", other === button);
    draw();
  });
  if (select) select.addEventListener("change", () => { metric = select.value; draw(); });
  dark.addEventListener("change", draw);
  draw();
})();
