// `default`: the path pushes, curvature holds, as proto/dcao_proto/policy/presets/default.py has it. Sums, products and
// square roots only: it agrees bit for bit.

import { AVERAGED, clamp, free, HUGE, sums, threshold, TINY, type Draft, type Policy } from "./compose.js";
import type { Observation } from "./messages.js";
import { ONE, remember, type State } from "./state.js";

const DEFAULT = { push: null, margin: null, rho_tolerance: 0.5, rise: 4, fall: 2, stop_after: 3, leeway: 1.5 };
type Parameters = Omit<typeof DEFAULT, "push" | "margin"> & { push: number | null; margin: number | null };

/** The path pushes, curvature holds: η = min(s · r/√G · shape, C · threshold/λ̂). */
export const followsPath: Policy = (spec, state, seen, base) => {
  const p: Parameters = { ...DEFAULT, ...spec.policy.params };
  const next = remember(state, seen);
  const draft: Draft = { factors: ONE, reasons: [], action: "continue",
    next_probe_in: Math.min(Math.max(seen.step, 1), spec.probe_interval) };
  next.diverged = seen.status === "diverged" ? state.diverged + 1 : 0;
  if (seen.status === "diverged") {
    draft.reasons.push("backoff:diverged");
    draft.regime = "diverged";
    draft.action = next.diverged >= p.stop_after ? "stop" : "rollback";
    next.retreat = Math.max(state.retreat / 2, 2 ** -20);
  }
  measure(draft, state, next, seen, p);
  if (spec.trust === "watch") return [draft, next];
  const { optimizer } = spec, beta = base.momentum, limit = threshold(optimizer, beta);
  const muon = optimizer === "schedule_free_muon";
  const push = p.push ?? (free(optimizer) ? (muon ? 1.2 : 2.5) : 2.2 * (sums(optimizer) ? 1 - beta : 1));
  const leeway = spec.trust === "guard" && AVERAGED.has(optimizer) && seen.step < 16 ? p.leeway : 1;
  const averaged = Math.max(1, (4 * (1 - beta)) / (2 * (1 + beta)));
  const margin = p.margin ?? (free(optimizer) ? (muon ? 8 : 4) : AVERAGED.has(optimizer) ? averaged : 1.5);
  draft.factors = { lr: (spec.scale === "path" ? push * leeway : 1) * next.retreat, momentum: 1, weight_decay: 1 };
  const held = next.sharpness === null || limit === null ? Infinity : Math.min((margin * limit) / next.sharpness, HUGE);
  const ceiling = Math.min(held * next.retreat, seen.path?.most ?? Infinity);
  if (ceiling < Infinity) draft.ceiling = ceiling;
  next.factors = draft.factors;
  return [draft, next];
};

/** λ̂ after a measurement: at once upwards, half-way downwards in ln λ, either within a limit. */
function measure(draft: Draft, state: State, next: State, seen: Observation, p: Parameters): void {
  const { status = "ok", rho } = seen, fingerprint = seen.probe?.fingerprint ?? null;
  let sharpness = state.sharpness;
  if (fingerprint !== null && fingerprint !== state.fingerprint) {
    next.fingerprint = fingerprint;
    if (state.fingerprint !== null) {
      draft.reasons.push("recalibrate:fingerprint");
      sharpness = null;
    }
  }
  if (status !== "ok" || rho == null || (seen.rho_bound ?? 0) > p.rho_tolerance * Math.abs(rho)) {
    draft.reasons.push(status !== "ok" || rho == null ? `held:${status}` : "held:residual");
    draft.regime ??= "held";
    return;
  }
  if (rho <= 0) draft.reasons.push("negative-curvature");
  if (sharpness === null) {
    next.sharpness = rho > 0 ? clamp(rho, [TINY, HUGE]) : null;
    return;
  }
  const most = state.rho.count < 3 ? Infinity : sharpness * p.rise, least = sharpness / p.fall;
  const rises = rho >= sharpness, wanted = rises ? rho : rho > 0 ? Math.sqrt(sharpness) * Math.sqrt(rho) : 0;
  next.sharpness = rises ? Math.min(rho, most, HUGE) : Math.max(wanted, least, TINY);
  if (rises ? wanted > most : wanted < least) draft.reasons.push("slew:sharpness");
}
