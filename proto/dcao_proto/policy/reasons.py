"""The one table of words: every code a decision can carry, as the sentence that a person reads.

A sentence may hold placeholders. `{lr}`, `{momentum}` and `{weight_decay}` are the values, from what to what where the
decision before is known; `{f}`, `{g}` and `{h}` the factors on the base; all others are numbers of the cause. What
stands in `[…]` is left out where a number in it is not there, so a sentence reads well without any. `why.py` fills
them; the page (`why.js`), the TypeScript client (`reasons.ts`) and docs/reasons.md are made from this table.
"""

REASONS: dict[str, str] = {
    "calibrating": "The reference curvature is still being measured[ (probes so far: {probes}; {of} must agree)]; the "
    "values are the base values.",
    "calibrating:gap": "The reference gap is still being measured; the momentum stays.",
    "calibrated": "The reference curvature has just been taken from the probes so far.",
    "recalibrate:fingerprint": "What is being measured changed, so the old curvatures no longer count.",
    "no-reference": "The base learning rate is 0, so there is no edge to refer to; the factors stay, and the next "
    "probe comes soon.",
    "held:breakdown": "The eigensolver found no second Ritz value; the values stay.",
    "held:unavailable": "No curvature was measured; the values stay.",
    "held:residual": "The probe's Ritz bound on ρ is too wide[: {share} of it, at most {most} is used]; the values "
    "stay.",
    "held:gap": "The bound on γ is too wide[: {share} of it, at most {most} is used]; the momentum stays.",
    "held:outlier": "ρ is far from its last values; the values stay unless it happens three times in a row.",
    "held:diverged": "The run diverged; momentum and weight decay stay.",
    "backoff:diverged": "The run diverged, so what it may ask for is halved: learning rate {lr}.",
    "regime-change": "Three outliers in a row were taken for a new regime; the averages start anew.",
    "negative-curvature": "ρ ≤ 0: the largest curvature points down, so the learning rate is not raised.",
    "ceiling:lr": "The learning rate met its ceiling[: {margin} × the edge of stability at a curvature of {sharpness}]"
    "[: your own rate, {yours}][, where {asked} was asked for][, × {retreat} after divergences]: "
    "learning rate {lr}.",
    "slew:sharpness": "The curvature jumped; the ceiling follows in limited steps[, as if it were {sharpness}, not "
    "{rho}].",
    "clamped:lr": "The factor on the learning rate met a bound[; the law asks for × {wanted}].",
    "clamped:momentum": "The momentum met a bound or its cap[; the law asks for a factor of {wanted}].",
    "clamped:weight_decay": "The factor on the weight decay met a bound[; the law asks for × {wanted}].",
    "dead-band:lr": "The change of the learning rate was too small to be worth making[; the law asks for × {wanted}].",
    "dead-band:momentum": "The change of the momentum was too small to be worth making[; the law asks for a factor of "
    "{wanted}].",
    "dead-band:weight_decay": "The change of the weight decay was too small to be worth making[; the law asks for × "
    "{wanted}].",
    "slew:lr": "The learning rate moves in limited steps[ towards × {wanted}].",
    "slew:momentum": "The momentum moves in limited steps[ towards a factor of {wanted}].",
    "slew:weight_decay": "The weight decay moves in limited steps[ towards × {wanted}].",
    "fast:lr": "The run is far beyond the edge of stability, so the learning rate fell without a limit.",
    "effective-lr": "The learning rate was adjusted so that the momentum's change leaves η/(1−β) as it was.",
    "warn:loop-gain": "The law reacts more than proportionally here (elasticity [{elasticity}, ]above 1) and may pin "
    "itself.",
    "warn:saturated": "The learning rate has been at a bound for ten decisions; the reference does not fit this run.",
}
"""Codes of the stages that changed or held a value. They are labels of metrics too, so there are few."""

CAUSES: dict[str, str] = {
    "edge:lr": "Sharpness is {ratio} × its edge[, the aim is {aim} ×]: learning rate × {f}, {lr}.",
    "batch-edge:lr": "Batch sharpness is {ratio} × its edge[, the aim is {aim} ×]: learning rate × {f}, {lr}.",
    "sharpness:lr": "Sharpness is {ratio} × its reference: learning rate × {f}, {lr}.",
    "sharpness:weight_decay": "Sharpness is {ratio} × its reference: weight decay × {h}, {weight_decay}.",
    "gap:momentum": "The spectral gap is {ratio} × its reference: momentum × {g}, {momentum}.",
    "path:lr": "The way come so far gives {path}, times {f}[ (of it {retreat} after divergences)]: learning rate {lr}.",
    "schedule:lr": "Your schedule sets the rate[, × {retreat} after divergences]: learning rate {lr}.",
    "watch": "Trust is `watch`: nothing is changed, the learning rate is yours, {lr}.",
    "base": "This policy leaves every value at its base: learning rate {lr}.",
}
"""Codes of what moves a value. They come only as causes, with their numbers."""

REGIMES: dict[str, str] = {
    "calibrating": "The reference is being measured.",
    "flat": "Far below the edge of stability (edge ratio below 0.1), or no curvature points up.",
    "stable": "Below the edge (0.1 to 0.8), or an optimizer whose edge is not known.",
    "edge": "At the edge of stability (0.8 to 1.2), where full-batch training hovers by itself.",
    "unstable": "Beyond the edge (above 1.2): the loss is about to climb unless something gives.",
    "diverged": "Loss, gradient or curvature is not finite; what the law may ask for was halved.",
    "held": "The observation was not used; the values are what they were.",
    "pending": "Other workers' observations are awaited; the values are what they were.",
}
"""Where a run stands at a decision."""

ACTIONS: dict[str, str] = {
    "continue": "Go on.",
    "rollback": "Go back to the last checkpoint, and on from there with the values of this decision.",
    "stop": "Several observations in a row diverged: stop, and look at the loss.",
}
"""What a decision advises the training loop."""

VALUES: dict[str, str] = {
    "lr": "learning rate η",
    "momentum": "momentum β (β₁ of the Adam family)",
    "weight_decay": "weight decay λ",
    "f": "factor on the base learning rate",
    "g": "factor on the base momentum",
    "h": "factor on the base weight decay",
}
"""Placeholders that stand for what was decided."""

NUMBERS: dict[str, str] = {
    "aim": "edge ratio that the law drives to",
    "asked": "learning rate that would be used without the ceiling",
    "elasticity": "|d ln f / d ln ρ| of the law here",
    "margin": "ceiling over the edge of stability",
    "most": "largest share that is used",
    "of": "probes that must agree",
    "path": "r/√G × your schedule's shape: learning rate that the way come gives",
    "probes": "accepted probes so far",
    "ratio": "curvature over its reference or its edge, or gap over its reference",
    "retreat": "factor that divergences have left",
    "rho": "ρ as measured",
    "share": "bound over what it bounds",
    "sharpness": "λ̂: curvature on which the ceiling stands, unit of ρ",
    "wanted": "factor that the law asks for",
    "yours": "learning rate that your schedule says now",
}
"""Placeholders that stand for a number of a cause. Without a unit: dimensionless."""

SENTENCES: dict[str, str] = {**CAUSES, **REASONS}
