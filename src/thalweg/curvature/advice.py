r"""What follows from an inspection, in plain words, each sentence with its evidence.

A rule is a function of the findings that returns advice or None. What it says must hold on the
local quadratic, and where it is about something else (steps with noise, a training loss that is no
quadratic), the sentence says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from thalweg.curvature.findings import Advice
from thalweg.curvature.inspection import Inspection
from thalweg.curvature.measured import figures
from thalweg.curvature.wording import (
    HIGH,
    ahead,
    costed,
    count,
    directions,
    percent,
    place,
    rate_evidence,
    steps_to_a_tenth,
    too_high,
)


__all__ = ["advise"]

LOW = 0.5  # of the stable limit: far below it
TIMID = 0.1  # of the stable limit: so low that more is worth a try
STEEP = 10.0  # times the median layer's sharpness
STRETCHED = 100.0  # a condition number worth a sentence
DEAD = 1e-10  # share of gradient norm and sharpness under which a layer has none


def advise(found: Inspection) -> Iterator[Advice]:
    """The advice of every rule that has something to say, most urgent first.

    Args:
        found: The inspection; its own ``advice`` is not read.

    Yields:
        At least one answer to each of the three questions.
    """
    helped = False
    for rule in RULES:
        advice = rule(found)
        if advice is not None:
            helped = helped or advice.question == "help"
            yield advice
    if not helped:
        text = "Nothing stands out: neither rate, conditioning, layers nor noise ask for a change."
        if found.point.kind == "not a critical point":
            text = "Going on as it is: the loss still falls along the gradient, and neither rate, "
            text += "conditioning, layers nor noise ask for a change."
        evidence = f"condition number {found.condition or '–'}, noise scale {found.noise or '–'}"
        yield Advice("help", text, evidence, "nothing")


# ---- is the learning rate too high? -------------------------------------------------------------
def rate(found: Inspection) -> Advice | None:
    """The learning rate in use against its limit."""
    used = found.stability
    if used is None or used.ratio is None or used.limit is None:
        return _rate_of_descent(found)
    lr, limit, ratio = figures(used.lr), figures(used.limit.value), used.ratio
    where = place(used.shares)
    if too_high(found):
        text = (
            f"Yes: your learning rate {lr} is {figures(ratio.value, 2)} times the stable limit "
            f"{limit} {directions(used)} lies {where}. Steps of {used.optimizer} grow there "
            f"until the curvature gives way; lower the rate below {limit}."
        )
    elif ratio.value + (ratio.error or 0.0) >= 1 / HIGH:
        text = (
            f"It is at the edge: your learning rate {lr} is {figures(ratio.value, 2)} times the "
            f"stable limit {limit}; the steepest direction lies {where}. Full-batch training often "
            "stays here while its loss falls; there is no room for a higher rate."
        )
    else:
        room = figures(1 / ratio.value, 2)
        text = (
            f"No: your learning rate {lr} is {percent(ratio.value)} of the stable limit {limit}; "
            f"the steepest direction lies {where}."
        )
        if ratio.value < LOW:
            text += f" The local quadratic would bear {room} times the rate; how far the loss "
            text += "stays like it, and the noise of small batches, it does not know."
    return Advice("rate", f"{text} {used.note}".strip(), rate_evidence(used), "rate")


def _rate_of_descent(found: Inspection) -> Advice:
    """Without an optimizer, or without a limit for it: what plain descent could take."""
    why = "No optimizer was given."
    if found.stability is not None:
        why = found.stability.note
    if found.descent_limit is None:
        text = f"{why} {found.missing['descent_limit']}"
        return Advice("rate", text, f"λ_max = {found.largest}", "rate")
    text = f"{why} Plain gradient descent is stable below {figures(found.descent_limit.value)} here"
    text += f"; the steepest direction lies {place(found.top)}."
    return Advice("rate", text, f"2 / λ_max, λ_max = {costed(found.largest)}", "rate")


def best_rate(found: Inspection) -> Advice | None:
    """The best constant rate of plain descent, or why there is none."""
    best = found.optimal_rate
    if best is None:
        return None
    kappa = found.largest.value / found.smallest.value
    factor = (kappa - 1) / (kappa + 1)
    text = (
        "The best constant rate of plain gradient descent on this quadratic is "
        f"{figures(best.value)}: each step then leaves at most {percent(factor, 4)} of the "
        "distance to the minimum."
    )
    evidence = f"2 / (λ_min + λ_max), λ_min = {found.smallest}, λ_max = {found.largest}"
    return Advice("rate", text, evidence, "best rate")


# ---- is this a minimum? -------------------------------------------------------------------------
def point(found: Inspection) -> Advice | None:
    """What kind of point it is."""
    here, text = found.point, ""
    flat = f"{percent(here.inside.value)} of all directions are flat to within the tolerance"
    down = f"{count(here.index)} of {found.parameters:,} directions curve down"
    if here.kind == "minimum":
        text = "Yes, to within the tolerances: no direction curves down, and the critical point of "
        text += f"the quadratic model is {percent(here.reach, 2)} of the parameters' length away."
        if here.inside.value > 0:
            text += f" It is not an isolated one as far as can be told: {flat}."
    elif here.kind == "maximum":
        text = "No: it is a maximum. No direction curves up."
    elif here.kind == "saddle":
        text = f"No: it is a saddle, where {down}. The steepest way down lies "
        text += f"{place(found.bottom)}."
    elif here.kind == "plateau":
        text = "No telling: it is a plateau, where neither the gradient nor the curvature over the "
        text += f"whole length of the parameters changes the loss by {percent(here.critical)}."
    else:
        text = f"No: it is not a critical point. {ahead(found)} "
        text += f"{down[:1].upper()}{down[1:]}." if here.index.value >= 0.5 else ""
        text = text.strip()
    evidence = (
        f"gradient norm {figures(found.gradient_norm)}, the step gains {figures(here.gain, 2)} in "
        f"the quadratic model and {figures(here.taken, 2)} in the loss; λ_min = {found.smallest}, "
        f"λ_max = {found.largest}, tolerance ±{figures(here.tolerance, 2)} with "
        f"{percent(here.inside.value)} of the eigenvalues inside"
    )
    return Advice("point", text, evidence, "point")


# ---- what would help? ---------------------------------------------------------------------------
def lower(found: Inspection) -> Advice | None:
    """A rate past its limit is the first thing to mend."""
    used = found.stability
    if used is None or used.limit is None or not too_high(found):
        return None
    text = f"A learning rate below {figures(used.limit.value)}"
    return Advice("help", f"{text}.", rate_evidence(used), "lower")


def higher(found: Inspection) -> Advice | None:
    """A rate far below its limit, where there is still a way to go."""
    used = found.stability
    if used is None or used.ratio is None or used.limit is None:
        return None
    if used.ratio.value > TIMID or found.point.kind not in {"not a critical point", "saddle"}:
        return None
    text = (
        f"A higher learning rate: {figures(used.lr)} is {percent(used.ratio.value)} of what is "
        "stable here. Try twice as much, and look again."
    )
    return Advice("help", text, rate_evidence(used), "higher")


def going_on(found: Inspection) -> Advice | None:
    """Where training is not done, what it still has to gain; where it is a saddle, the way out."""
    here = found.point
    if here.kind == "saddle":
        text = (
            f"A step along the direction of most negative curvature, which lies "
            f"{place(found.bottom)}: the loss falls to both sides of it. Noise or momentum find "
            "it by themselves, slowly."
        )
        return Advice("help", text, f"λ_min = {costed(found.smallest)}", "saddle")
    if here.kind == "plateau":
        text = (
            "Another start, or other scales: gradient steps will not leave a plateau. Look for "
            "saturated or dead units, vanishing weights and a loss that does not reach the model."
        )
        evidence = f"gradient norm {figures(found.gradient_norm)}, |λ| at most "
        evidence += figures(max(abs(found.largest.value), abs(found.smallest.value)))
        return Advice("help", text, evidence, "plateau")
    return None


def dead(found: Inspection) -> Advice | None:
    """Layers with neither gradient nor curvature."""
    steepest = max((row.sharpness.value for row in found.layers), default=0.0)
    if steepest <= 0 or found.point.kind == "plateau":
        return None
    names = [
        f"`{row.name}`"
        for row in found.layers
        if abs(row.sharpness.value) <= DEAD * steepest
        and row.gradient_norm <= DEAD * max(found.gradient_norm, steepest * found.parameter_norm)
    ]
    if not names:
        return None
    text = f"{', '.join(names)}: no gradient and no curvature, so nothing trains there. Look for "
    text += "dead units above, or for a part of the model that the loss does not use."
    return Advice("help", text, f"sharpness below {DEAD:g} of the steepest layer's", "dead")


def imbalance(found: Inspection) -> Advice | None:
    """One layer that is much steeper than the others."""
    rows = sorted(
        (row for row in found.layers if row.sharpness.value > 0),
        key=lambda row: -row.sharpness.value,
    )
    if len(rows) < 3:
        return None
    middle, first = rows[len(rows) // 2], rows[0]
    times = first.sharpness.value / middle.sharpness.value
    if times < STEEP or (found.stability is not None and found.stability.preconditioned):
        return None
    text = (
        f"A smaller rate for `{first.name}`, or a method that scales layers apart (Adam, "
        f"normalisation): it is {figures(times, 2)} times as sharp as the median layer. Even alone "
        f"it would hold plain descent below {figures(2 / first.sharpness.value)}, while "
        f"`{middle.name}` alone could take {figures(2 / middle.sharpness.value)}."
    )
    evidence = f"sharpness {costed(first.sharpness)} against {costed(middle.sharpness)}"
    return Advice("help", text, evidence, "imbalance")


def conditioning(found: Inspection) -> Advice | None:
    """A stretched valley: what it costs plain descent, and what momentum would."""
    if too_high(found):
        return None
    kappa = found.condition
    if kappa is None or not math.isfinite(kappa.value) or kappa.value < STRETCHED:
        return None
    used = found.stability
    if used is not None and used.preconditioned:  # it sees another matrix
        return None
    plain, ball = steps_to_a_tenth(kappa.value), steps_to_a_tenth(math.sqrt(kappa.value))
    what = "A preconditioner" if used is not None and "β" in used.formula else "Momentum"
    text = (
        f"{what}, because the valley is stretched: along the flattest directions that curve up, "
        f"gradient descent at its best rate needs about {figures(plain, 2)} steps to get ten times "
        f"closer, heavy ball at its best about {figures(ball, 2)}."
    )
    evidence = f"condition number of the positive part {figures(kappa.value, 2)}, above "
    evidence += f"{figures(found.point.tolerance, 2)}"
    return Advice("help", text, evidence, "conditioning")


def noise(found: Inspection) -> Advice | None:
    """The batch size against the noise scale."""
    scale, batch = found.noise, found.batch_size
    if scale is None or batch is None or not scale.value > 0 or too_high(found):
        return None
    progress = 1 / (1 + scale.value / batch)
    double = (1 + scale.value / batch) / (1 + scale.value / (2 * batch))
    if scale.low is not None and scale.low > 2 * batch:
        text = (
            f"A larger batch: at {batch} samples noise rules the step. Doubling it would make "
            f"{figures(double, 3)} times the progress a step, and it pays up to about "
            f"{figures(scale.value, 2)} samples."
        )
    elif scale.high is not None and scale.high < batch / 4:
        few = max(1, round(scale.value))
        part = 1 / (1 + scale.value / few)
        text = (
            f"A smaller batch, if samples are what costs: {batch} are more than this gradient "
            f"needs. {few} would make {percent(part)} of the full gradient's progress a step at "
            f"{percent(few / batch)} of the cost."
        )
    else:
        return None
    ends = f", 95% interval {figures(scale.low)} to {figures(scale.high) if scale.high else '∞'}"
    if scale.low == scale.high:
        ends = ", exact over these samples"
    evidence = f"noise scale {figures(scale.value)}{ends}; a step at {batch} samples makes "
    evidence += f"{percent(progress)} of what the exact gradient would, at the best rate of each"
    return Advice("help", text, evidence, "noise")


RULES: tuple[Callable[[Inspection], Advice | None], ...] = (
    rate,
    best_rate,
    point,
    lower,
    higher,
    going_on,
    dead,
    imbalance,
    noise,
    conditioning,
)
