// The law: a pure function of what a client holds, so that it can decide by itself what the controller would.

import { because, compose, type Draft, type Policy } from "./compose.js";
import { full, type Decision, type FullSpec, type Observation } from "./messages.js";
import { followsPath } from "./path.js";
import { staged } from "./stages.js";
import { ONE, remember, type State } from "./state.js";

const constant: Policy = (_spec, state, seen) => {
  const diverged = seen.status === "diverged", held = !diverged && (seen.status ?? "ok") !== "ok";
  const draft: Draft = { factors: ONE, reasons: [], causes: [], action: diverged ? "rollback" : "continue" };
  because(draft, "base");
  if (diverged || held) draft.regime = diverged ? "diverged" : "held";
  return [draft, remember(state, seen)];
};

const POLICIES: Record<string, [number, Policy]> = {
  default: [3, followsPath], constant: [1, constant], power: [1, staged("power")], edge: [2, staged("edge")],
  linear: [1, staged("linear")], paper: [1, staged("paper")],
};
export const knows = (policy: string): boolean => Object.hasOwn(POLICIES, policy);

/** The decision for an observation, and the state after it. A function of its arguments only. */
export function decide(spec: FullSpec, seen: Observation, state: State, version: number): [Decision, State] {
  const [number, policy] = POLICIES[spec.policy.name]!, base = seen.base ? full(seen.base) : spec.base;
  const [draft, after] = policy(spec, state, seen, base);
  return [compose(spec, seen, base, draft, `${spec.policy.name}@${number}`, version + 1), after];
}
