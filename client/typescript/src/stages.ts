// The presets made of stages: gate → reference → smoothing → law → bounds → dead band → slew limit, as
// proto/dcao_proto/policy/pipeline.py has them. exp, ln and tanh are the engine's own: equal to a relative 1e-12.

import { because, clamp, edgeRatio, HUGE, note, shareOf, threshold, TINY, type Draft, type Numbers, type Policy } from "./compose.js";
import type { FullSpec, Observation, Values } from "./messages.js";
import { remember, type State } from "./state.js";

const STAGES = {
  rho_tolerance: 0.1, gamma_tolerance: 0.25, stop_after: 3, reference: "static", rho_ref: null as number | null,
  gamma_ref: null as number | null, target: 1, calibration_probes: 5, calibration_spread: 0.3, warmup_steps: 0,
  smoothing: 0, reject_outliers: false, momentum_form: "horizon", preserve_effective_lr: false,
  weight_decay_form: "centred", kappa: 0 as number | null, mu: 0, dead_band: 0, slew: null as number | null,
  momentum_slew: null as number | null, fast_edge: 2, literal_negative: false, exponent: 0.5, slope: 0.25,
  alpha: null as number | null,
};
type Parameters = typeof STAGES;
type Name = "paper" | "power" | "edge" | "linear";
const PRESETS: Record<Name, Partial<Parameters>> = {
  power: { reference: "schedule" }, edge: { reference: "edge" }, linear: { reference: "schedule" },
  paper: { kappa: null, mu: 0.5, momentum_form: "literal", weight_decay_form: "literal", literal_negative: true },
};
const FORGOTTEN = { calibration: [], rho_ref: null, gamma_ref: null, lr_ref: null, log_rho: null, gamma: null,
  window: [], outliers: 0, rho: { mean: 0, variance: 0, count: 0 } };

const representable = (x: number) => clamp(x, [TINY, HUGE]);
const times = (a: number, b: number) => (a === 0 || b === 0 ? 0 : a * b);
const exp = (x: number) => Math.exp(clamp(x, [-700, 700]));
function median(values: number[]): number {
  const ordered = [...values].sort((a, b) => a - b), half = ordered.length >> 1;
  return ordered.length % 2 ? ordered[half]! : (ordered[half - 1]! + ordered[half]!) / 2;
}

/** f of a law, and its elasticity |d ln f / d ln ρ|. */
function factor(name: Name, rho: number, ref: number, p: Parameters): [number, number] {
  if (name === "paper") {
    const alpha = p.alpha ?? Math.LN2 / ref;
    return [exp(-times(alpha, rho - ref)), alpha * Math.max(rho, 0)];
  }
  if (name === "linear") {
    const f = 1 - times(p.slope, rho / ref - 1);
    return [f, f > 0 ? Math.abs((p.slope * (rho / ref)) / f) : 0];
  }
  if (rho <= 0) return [p.exponent > 0 ? Infinity : 1, p.exponent];
  return [exp(-p.exponent * (Math.log(rho) - Math.log(ref))), p.exponent];
}
function gain(name: Name, gamma: number, ref: number, kappa: number | null): number {
  if (name !== "paper") return 1 + Math.tanh(times(kappa ?? 0, gamma / ref - 1));
  return 1 + Math.tanh(times(kappa ?? Math.atanh(0.5) / ref, gamma - ref));
}

/** The curvature that the law looks at and its threshold; for `nearest_edge` the nearer of two edges, as a ratio. */
function signal(seen: Observation, p: Parameters, optimizer: string, beta: number) {
  const limit = threshold(optimizer, beta), rho = seen.rho!;
  if (p.reference !== "nearest_edge" || limit === null) return { value: rho, limit, byBatch: false };
  const noisy = optimizer === "sgd" || optimizer === "nesterov" ? 2 * (1 - beta) : null;
  const sharp = seen.batch_sharpness, known = sharp != null && noisy !== null;
  const other = known ? Math.min(sharp / noisy, HUGE) : -Infinity;
  return { value: Math.max(rho / limit, other), limit: 1, byBatch: other > rho / limit };
}

/** Collects (ρ, γ) until the references that are not given can be taken: medians of probes that agree. */
function calibrate(s: State, p: Parameters, step: number, rho: number, gamma: number, lr: number): string[] {
  const rhoRef = p.rho_ref ?? s.rho_ref, gammaRef = p.gamma_ref ?? s.gamma_ref;
  const known = p.reference.endsWith("edge") || rhoRef !== null, n = p.calibration_probes;
  if ((known && gammaRef !== null) || step < p.warmup_steps || rho <= 0) return [];
  const begun = s.calibration.length > 0;
  const all = [...s.calibration, [rho, gamma] as [number, number]].slice(-4 * n), recent = all.slice(-n);
  const rhos = recent.map(([r]) => r), spread = Math.log(Math.max(...rhos)) - Math.log(Math.min(...rhos));
  if (!(recent.length === n && spread <= p.calibration_spread) && all.length < Math.min(4 * n, 64)) {
    s.calibration = all.slice(-64);
    return [];
  }
  s.calibration = [];
  s.rho_ref = rhoRef ?? representable(median(rhos));
  s.gamma_ref = gammaRef ?? representable(median(recent.map(([, g]) => g)));
  s.lr_ref ??= lr;
  return begun ? ["calibrated"] : [];
}
function rhoReference(s: State, p: Parameters, lr: number, declared: number, limit: number | null): number | null {
  if (p.reference.endsWith("edge") && limit !== null) return lr > 0 ? representable((p.target * limit) / lr) : null;
  const rho = p.rho_ref ?? s.rho_ref, at = p.rho_ref !== null ? declared : s.lr_ref ?? 0;
  return rho !== null && p.reference === "schedule" && lr > 0 && at > 0 ? representable(rho * (at / lr)) : rho;
}

/** Hampel's test on ln ρ against the last nine; the third outlier in a row passes. */
function isOutlier(logRho: number, s: State, p: Parameters): boolean {
  if (!p.reject_outliers || s.window.length < 5 || s.outliers >= 2) return false;
  const centre = median(s.window), deviation = 1.4826 * median(s.window.map((x) => Math.abs(centre - x)));
  return Math.abs(logRho - centre) > Math.max(3 * deviation, 0.1);
}
function smooth(s: State, past: number, logRho: number, gamma: number | null): void {
  const fresh = s.outliers >= 2;
  s.log_rho = fresh || s.log_rho === null ? logRho : past * s.log_rho + (1 - past) * logRho;
  if (gamma !== null) s.gamma = fresh || s.gamma === null ? gamma : past * s.gamma + (1 - past) * gamma;
  s.window = fresh ? [logRho] : [...s.window, logRho].slice(-9);
  s.outliers = 0;
}

function steadied(
  name: keyof Values, wanted: number, draft: Draft, spec: FullSpec, band: number, slew: number | null, fast = false,
): number {
  const old = draft.factors[name], to = clamp(wanted, spec.bounds[name]), both = to > 0 && old > 0;
  if (to !== wanted && name !== "momentum") note(draft, `clamped:${name}`, { wanted });
  if (band > 0 && to !== old && both && Math.abs(Math.log(to) - Math.log(old)) < band) {
    note(draft, `dead-band:${name}`, { wanted: to });
    return old;
  }
  const limited = slew === null || !both ? to : Math.min(Math.max(to, old / slew), old * slew);
  if (limited === to) return to;
  if (fast && to < old) {
    draft.reasons.push(`fast:${name}`);
    return to;
  }
  note(draft, `slew:${name}`, { wanted: to });
  return limited;
}

/** A preset: the stages around its law. */
export const staged = (name: Name): Policy => (spec, state, seen, base) => {
  const p: Parameters = { ...STAGES, ...PRESETS[name], ...spec.policy.params }, s = remember(state, seen);
  const draft: Draft = { factors: within(s.factors, spec), reasons: [], causes: [], action: "continue",
    literal: p.momentum_form === "literal", preserve: p.preserve_effective_lr };
  const { reasons } = draft;
  if (seen.status === "diverged") return backOff(draft, s, p, spec);
  s.diverged = 0;
  const fingerprint = seen.probe?.fingerprint ?? null;
  if (fingerprint !== null && fingerprint !== s.fingerprint) {
    if (s.fingerprint !== null) {
      reasons.push("recalibrate:fingerprint");
      Object.assign(s, FORGOTTEN);
    }
    s.fingerprint = fingerprint;
  }
  const { status = "ok", rho, gamma } = seen;
  const usable = status === "ok" && rho != null && gamma != null;
  if (!usable || (seen.rho_bound ?? 0) > p.rho_tolerance * Math.abs(rho)) {
    if (usable) note(draft, "held:residual", shareOf(seen.rho_bound, rho, p.rho_tolerance));
    else reasons.push(`held:${status}`);
    return [{ ...draft, regime: "held" }, s];
  }
  const good = (seen.gamma_bound ?? 0) <= p.gamma_tolerance * gamma;
  if (!good) note(draft, "held:gap", shareOf(seen.gamma_bound, gamma, p.gamma_tolerance));
  const { value, limit, byBatch } = signal(seen, p, spec.optimizer, base.momentum);
  reasons.push(...calibrate(s, p, seen.step, value, gamma, base.lr));
  const ref = rhoReference(s, p, base.lr, spec.base.lr, limit), gammaRef = p.gamma_ref ?? s.gamma_ref;
  const logRho = Math.log(Math.max(value, 1e-3 * (ref ?? 0), TINY));
  if (isOutlier(logRho, s, p)) {
    s.outliers += 1;
    reasons.push("held:outlier");
    return [{ ...draft, regime: "held" }, s];
  }
  if (s.outliers >= 2) reasons.push("regime-change");
  smooth(s, p.smoothing, logRho, good ? gamma : null);
  if (ref === null) {
    const calibrating = !p.reference.endsWith("edge") || limit === null;
    if (calibrating) note(draft, "calibrating", { probes: s.calibration.length, of: p.calibration_probes });
    else {
      reasons.push("no-reference");
      draft.next_probe_in = Math.min(Math.max(seen.step, 1), spec.probe_interval);
    }
    return [{ ...draft, regime: calibrating ? "calibrating" : "held" }, s];
  }
  const used = p.smoothing > 0 && value > 0 ? Math.exp(Math.min(s.log_rho!, Math.log(Number.MAX_VALUE))) : value;
  const atEdge = p.reference.endsWith("edge") && limit !== null ? (byBatch ? "batch-edge" : "edge") : "sharpness";
  apply(draft, name, used, ref, good ? s.gamma : null, gammaRef, p, spec, base, seen, atEdge);
  return [draft, countSaturation(draft, s, spec)];
};

function apply(
  draft: Draft, name: Name, rho: number, ref: number, gamma: number | null, gammaRef: number | null, p: Parameters,
  spec: FullSpec, base: Values, seen: Observation, looksAt: string,
): void {
  const { reasons } = draft, [law, elasticity] = factor(name, rho, ref, p);
  let f = law, g = draft.factors.momentum;
  if (elasticity > 1) note(draft, "warn:loop-gain", { elasticity });
  if (rho <= 0 && !p.literal_negative) {
    reasons.push("negative-curvature");
    f = Math.min(f, 1);
  }
  if (gamma !== null && gammaRef !== null) g = gain(name, gamma, gammaRef, p.kappa);
  else if (gamma !== null && p.kappa !== 0) reasons.push("calibrating:gap");
  const h = 1 + times(p.mu, rho / ref - (p.weight_decay_form === "centred" ? 1 : 0));
  const ratio = rho / ref, aim: Numbers = p.target === 1 ? {} : { aim: p.target };
  if (looksAt === "sharpness") because(draft, "sharpness:lr", { ratio });
  else because(draft, `${looksAt}:lr`, { ratio: ratio * p.target, ...aim });
  if (gamma !== null && gammaRef !== null && p.kappa !== 0) because(draft, "gap:momentum", { ratio: gamma / gammaRef });
  if (p.mu !== 0) because(draft, "sharpness:weight_decay", { ratio });
  const edge = edgeRatio(spec.optimizer, base.lr * draft.factors.lr, base.momentum, seen.rho);
  const fast = (edge ?? 0) > p.fast_edge;
  draft.factors = {
    lr: steadied("lr", f, draft, spec, p.dead_band, p.slew, fast),
    momentum: steadied("momentum", g, draft, spec, p.dead_band, p.momentum_slew),
    weight_decay: steadied("weight_decay", h, draft, spec, p.dead_band, p.slew),
  };
}

function backOff(draft: Draft, s: State, p: Parameters, spec: FullSpec): [Draft, State] {
  s.diverged += 1;
  draft.factors = s.factors = { ...draft.factors, lr: clamp(draft.factors.lr / 2, spec.bounds.lr) };
  draft.reasons.push("backoff:diverged", "held:diverged");
  return [{ ...draft, regime: "diverged", action: s.diverged >= p.stop_after ? "stop" : "rollback" }, s];
}

function countSaturation(draft: Draft, s: State, { bounds: { lr: [low, high] } }: FullSpec): State {
  const pinned = low < high && (draft.factors.lr === low || draft.factors.lr === high);
  s.at_bound = pinned ? s.at_bound + 1 : 0;
  s.at_bound_total += pinned ? 1 : 0;
  if (s.at_bound >= 10) draft.reasons.push("warn:saturated");
  s.factors = draft.factors;
  return s;
}

const within = ({ lr, momentum, weight_decay }: Values, { bounds }: FullSpec): Values => ({
  lr: clamp(lr, bounds.lr), momentum: clamp(momentum, bounds.momentum),
  weight_decay: clamp(weight_decay, bounds.weight_decay),
});
