// What every policy drafts, and how a draft becomes a decision.

import { type Action, type Cause, type Decision, type FullSpec, type Interval, type Observation, type Regime,
  type Values } from "./messages.js";
import type { State } from "./state.js";

/** A decision in the making: factors on the base, and why. */
export type Draft = {
  factors: Values; reasons: string[]; causes: Cause[]; regime?: Regime; action: Action; next_probe_in?: number; ceiling?: number;
  literal?: boolean; preserve?: boolean;
};
export type Numbers = Record<string, number>;

/** Says what moves or holds a value; what is not finite is no number for a person. */
export function because(draft: Draft, code: string, numbers: Numbers = {}): void {
  draft.causes.push({ code, numbers: finite(numbers) });
}
const finite = (numbers: Numbers): Numbers =>
  Object.fromEntries(Object.entries(numbers).filter(([, x]) => Number.isFinite(x)));
/** A reason, and what it has to say in numbers. */
export function note(draft: Draft, code: string, numbers: Numbers = {}): void {
  draft.reasons.push(code);
  if (Object.values(numbers).some(Number.isFinite)) because(draft, code, numbers);
}
/** How wide a bound is, as a share of what it bounds, and the largest share that is used. */
export const shareOf = (bound: number | undefined, value: number, most: number): Numbers =>
  value === 0 ? { most } : { share: (bound ?? 0) / Math.abs(value), most };

export type Policy = (spec: FullSpec, state: State, seen: Observation, base: Values) => [Draft, State];

export const HUGE = 1e300, TINY = 1e-300, MAX = Number.MAX_VALUE;
export const AVERAGED = new Set(["adam", "adamw", "amsgrad", "nadam", "radam", "adamax"]);
export const sums = (optimizer: string) => ["sgd", "rmsprop", "nesterov"].includes(optimizer);
export const free = (optimizer: string) => optimizer.startsWith("schedule_free_");
export const clamp = (value: number, [low, high]: Interval) => Math.min(Math.max(value, low), high);

/** The value of η·ρ at which a direction of curvature ρ stops contracting; null where it is not known. */
export function threshold(optimizer: string, beta: number): number | null {
  if (optimizer === "nesterov") return (2 * (1 + beta)) / (1 + 2 * beta);
  if (sums(optimizer)) return 2 * (1 + beta);
  if (AVERAGED.has(optimizer)) return (2 * (1 + beta)) / (1 - beta);
  return optimizer === "adagrad" || free(optimizer) ? 2 : null;
}
export function edgeRatio(optimizer: string, lr: number, beta: number, rho?: number | null): number | null {
  const limit = threshold(optimizer, beta);
  return rho == null || limit === null ? null : clamp(lr * (rho / limit), [-MAX, MAX]);
}

/** From factors to values: base × multiplier, at most the ceiling. */
export function compose(
  spec: FullSpec, seen: Observation, base: Values, draft: Draft, policy: string, version: number,
): Decision {
  const { bounds, optimizer } = spec, { reasons } = draft, beta = momentum(base.momentum, draft, spec);
  if (beta.capped) note(draft, "clamped:momentum", { wanted: draft.factors.momentum });
  let f = clamp(draft.factors.lr, bounds.lr);
  if (draft.preserve && sums(optimizer) && beta.value !== base.momentum) {
    const wanted = (f * (1 - beta.value)) / (1 - base.momentum);
    f = clamp(wanted, bounds.lr);
    reasons.push("effective-lr");
    if (f !== wanted) note(draft, "clamped:lr", { wanted });
  }
  const h = clamp(draft.factors.weight_decay, bounds.weight_decay);
  const ceiling = draft.ceiling === undefined || spec.trust === "watch" ? null : Math.min(Math.max(draft.ceiling, base.lr * bounds.lr[0]), 1e6);
  const limited = ceiling !== null && base.lr * f > ceiling, lr = limited ? ceiling : base.lr * f;
  if (limited) reasons.push("ceiling:lr");
  const ratio = edgeRatio(optimizer, lr, beta.value, seen.rho);
  const place = seen.rho != null && seen.rho <= 0 ? "flat" : ratio === null ? "stable"
    : ratio < 0.1 ? "flat" : ratio < 0.8 ? "stable" : ratio <= 1.2 ? "edge" : "unstable";
  return {
    attempt: seen.attempt ?? 1, step: seen.step, lr, momentum: beta.value, weight_decay: base.weight_decay * h,
    multipliers: { lr: f, momentum: beta.multiplier, weight_decay: h }, ...(ceiling === null ? {} : { ceiling }),
    ...(ratio === null ? {} : { edge_ratio: ratio }), regime: draft.regime ?? place, reasons: [...new Set(reasons)],
    ...(draft.causes.length === 0 ? {} : { causes: draft.causes.slice(0, 16) }),
    next_probe_in: draft.next_probe_in ?? spec.probe_interval, action: draft.action, policy, replayed: false,
    persisted: false, version,
  };
}

/** β = β₀·g, or 1 − (1−β₀)/g on the horizon; within its bounds and below its cap. */
function momentum(base: number, draft: Draft, { bounds }: FullSpec) {
  if (base <= 0) return { value: 0, multiplier: 1, capped: false };
  const gain = draft.factors.momentum, wanted = draft.literal ? base * gain : gain > 0 ? 1 - (1 - base) / gain : 0;
  const ratio = draft.literal ? gain : wanted / base, cap = Math.max(bounds.max_momentum, base);
  const within = clamp(ratio, bounds.momentum), over = base * within > cap;
  const value = over ? cap : base * within, multiplier = over ? cap / base : within;
  return { value, multiplier, capped: multiplier !== ratio };
}
