// `default`: the path pushes, curvature holds, as proto/dcao_proto/policy/presets/default.py has it. Sums, products and
// square roots only: it agrees bit for bit.

import { AVERAGED, because, clamp, free, HUGE, note, shareOf, sums, threshold, TINY, type Draft, type Numbers, type Policy } from "./compose.js";
import type { Observation } from "./messages.js";
import { ONE, remember, type State } from "./state.js";

const DEFAULT = { push: null, margin: null, rho_tolerance: 0.5, rise: 4, fall: 2, stop_after: 3, leeway: 1.5 };
type Parameters = Omit<typeof DEFAULT, "push" | "margin"> & { push: number | null; margin: number | null };

/** The path pushes, curvature holds: η = min(s · r/√G · shape, C · threshold/λ̂). */
export const followsPath: Policy = (spec, state, seen, base) => {
  const p: Parameters = { ...DEFAULT, ...spec.policy.params };
  const next = remember(state, seen);
  const draft: Draft = { factors: ONE, reasons: [], causes: [], action: "continue",
    next_probe_in: Math.min(Math.max(seen.step, 1), spec.probe_interval) };
  next.diverged = seen.status === "diverged" ? state.diverged + 1 : 0;
  if (seen.status === "diverged") {
    draft.reasons.push("backoff:diverged");
    draft.regime = "diverged";
    draft.action = next.diverged >= p.stop_after ? "stop" : "rollback";
    next.retreat = Math.max(state.retreat / 2, 2 ** -20);
  }
  measure(draft, state, next, seen, p);
  if (spec.trust === "watch") {
    because(draft, "watch");
    return [draft, next];
  }
  const { optimizer } = spec, beta = base.momentum, limit = threshold(optimizer, beta);
  const muon = optimizer === "schedule_free_muon";
  const push = p.push ?? (free(optimizer) ? (muon ? 1.2 : 2.5) : 2.2 * (sums(optimizer) ? 1 - beta : 1));
  const leeway = spec.trust === "guard" && AVERAGED.has(optimizer) && seen.step < 16 ? p.leeway : 1;
  const averaged = Math.max(1, (4 * (1 - beta)) / (2 * (1 + beta)));
  const margin = p.margin ?? (free(optimizer) ? (muon ? 8 : 4) : AVERAGED.has(optimizer) ? averaged : 1.5);
  const f = spec.scale === "path" ? push * leeway : 1, { retreat } = next;
  draft.factors = { lr: f * retreat, momentum: 1, weight_decay: 1 };
  const held = next.sharpness === null || limit === null ? Infinity : Math.min((margin * limit) / next.sharpness, HUGE);
  const edge = held * retreat, yours = seen.path?.most ?? Infinity, ceiling = Math.min(edge, yours);
  if (ceiling < Infinity) draft.ceiling = ceiling;
  const asked = base.lr * f * retreat, after: Numbers = retreat < 1 ? { retreat } : {};
  if (asked > edge && edge <= yours)
    because(draft, "ceiling:lr", { asked, sharpness: next.sharpness!, margin, ...after });
  else if (asked > yours) because(draft, "ceiling:lr", { asked, yours });
  else if (spec.scale === "path") because(draft, "path:lr", { path: base.lr, ...after });
  else because(draft, "schedule:lr", after);
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
    if (status !== "ok" || rho == null) draft.reasons.push(`held:${status}`);
    else note(draft, "held:residual", shareOf(seen.rho_bound, rho, p.rho_tolerance));
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
  if (rises ? wanted > most : wanted < least) note(draft, "slew:sharpness", { sharpness: next.sharpness, rho });
}
