// The messages on the wire, as far as a client needs them; proto/openapi.json describes every field.

export type Values = { lr: number; momentum: number; weight_decay: number };
export type Interval = [number, number];
export type Bounds = { lr: Interval; momentum: Interval; weight_decay: Interval; max_momentum: number };

/** What a run is; what is left out is as the controller would have it. */
export type Spec = {
  optimizer: string;
  base: { lr: number; momentum?: number; weight_decay?: number };
  policy?: { name?: string; params?: Record<string, unknown> };
  scale?: "user" | "path";
  trust?: "watch" | "guard" | "auto";
  bounds?: Partial<Bounds>;
  probe_interval?: number;
  labels?: Record<string, string>;
};
/** A specification with every field that a decision depends on. */
export type FullSpec = Spec & {
  base: Values; policy: { name: string; params: Record<string, unknown> };
  scale: "user" | "path"; bounds: Bounds; probe_interval: number;
};
export type Path = { distance: number; gradients: number; steps: number; shape?: number; most?: number };
export type Observation = {
  attempt?: number; step: number; status?: "ok" | "breakdown" | "diverged" | "unavailable";
  rho?: number; gamma?: number; rho_bound?: number; gamma_bound?: number; batch_sharpness?: number; loss?: number;
  base?: { lr: number; momentum?: number; weight_decay?: number }; path?: Path; probe?: { fingerprint?: string };
  state?: string; version?: number;
};
export type Regime = "calibrating" | "flat" | "stable" | "edge" | "unstable" | "diverged" | "held" | "pending";
export type Action = "continue" | "rollback" | "stop";
/** What moved or held a value, with its numbers; `why.ts` makes a sentence of it. */
export type Cause = { code: string; numbers: Record<string, number> };
export type Decision = Values & {
  attempt: number; step: number; multipliers: Values; ceiling?: number; edge_ratio?: number; regime: Regime;
  reasons: string[]; causes?: Cause[]; next_probe_in: number; action: Action; policy: string; replayed: boolean; persisted: boolean;
  groups?: { name: string; multiplier: number }[]; state?: string; version: number;
};
/** What the controller says of a run, or of an attempt of it, as far as it is looked at. */
export type Run = {
  attempt: number; version: number; decisions: number; last_step?: number; state?: string; status?: string;
};

const KEPT: Interval = [1, 1], FREE: Interval = [0.5, 2];
const LR: Record<string, Interval> = { watch: KEPT, guard: [0, 1], path: [0, 16] };

export const full = (base: Spec["base"]): Values => ({ momentum: 0, weight_decay: 0, ...base });

/** The specification with its defaults; bounds follow from how far the controller is trusted. */
export function complete(spec: Spec): FullSpec {
  const scale = spec.scale ?? "user", lr = LR[scale === "path" ? "path" : spec.trust ?? ""], others = lr ? KEPT : FREE;
  const bounds: Bounds = spec.bounds
    ? { lr: FREE, momentum: FREE, weight_decay: FREE, max_momentum: 0.99, ...spec.bounds }
    : { lr: lr ?? FREE, momentum: others, weight_decay: others, max_momentum: 0.99 };
  const policy = { name: spec.policy?.name ?? "default", params: spec.policy?.params ?? {} };
  return { ...spec, base: full(spec.base), policy, scale, bounds, probe_interval: spec.probe_interval ?? 100 };
}
