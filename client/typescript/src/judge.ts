// Is an answer one that this run allows? Asked of every answer before it touches an optimizer: a controller may be
// wrong, another one's, or somebody else. What is not known is left out.

import { full, type Decision, type FullSpec, type Interval, type Observation, type Values } from "./messages.js";

const TOLERANCE = 1e-9; // base × multiplier is one rounding, a capped momentum three
const REGIMES = ["calibrating", "flat", "stable", "edge", "unstable", "diverged", "held"]; // no other worker is awaited
const REASON = /^[a-z][a-z0-9-]*(:[a-z0-9_.-]+)?$/;

const real = (x: unknown): x is number => typeof x === "number" && Number.isFinite(x);
const count = (x: unknown): x is number => Number.isSafeInteger(x) && (x as number) >= 0;
const inside = (x: number, [low, high]: Interval) => x >= low * (1 - TOLERANCE) && x <= high * (1 + TOLERANCE);
const same = (x: number, y: number) =>
  Math.abs(x - y) <= Math.max(TOLERANCE * Math.max(Math.abs(x), Math.abs(y)), 1e-300);
const names = ["lr", "momentum", "weight_decay"] as const;
const isObject = (x: unknown): x is Record<string, unknown> => typeof x === "object" && x !== null;

/** What an answer may lie from what the law gives here, as a factor, where the bounds leave the rate open. */
export const REACH = 16;

/** Whether a decision is near what the law gives here: bounds of (0, 16) alone would allow a rate of nothing. */
export function near({ bounds: { lr: [low, high] } }: FullSpec, law: Decision, got: Decision, reach = REACH): boolean {
  if (high <= low * REACH) return true;
  const close = (x: number, y: number) => inside(x, [y / reach, y * reach]);
  const f = (d: Decision, name: string) =>
    d.multipliers.lr * (d.groups?.find((g) => g.name === name)?.multiplier ?? 1);
  const groups = [...(law.groups ?? []), ...(got.groups ?? [])].map((g) => g.name);
  return close(got.multipliers.lr, law.multipliers.lr) && close(got.lr, law.lr) &&
    groups.every((name) => close(f(got, name), f(law, name))) &&
    (law.ceiling == null || close(got.ceiling ?? Infinity, law.ceiling)) &&
    (law.action !== "continue" || got.action === "continue");
}

/** The decision in an answer; throws what was expected where it is none that the run allows. */
export function believed(spec: FullSpec, asked: Observation, answer: unknown, law: Decision): Decision {
  const expect = (holds: boolean, what: string) => {
    if (!holds) throw new Error(`expected ${what}`);
  };
  expect(isObject(answer) && isObject(answer["multipliers"]), "a decision");
  const got = answer as unknown as Decision, f: Values = got.multipliers, { bounds } = spec;
  const base = asked.base ? full(asked.base) : spec.base, ceiling = got.ceiling ?? null, groups = got.groups ?? [];
  expect(got.step === asked.step && got.attempt === asked.attempt, "an answer about this step and attempt");
  const [policy, number, ...more] = String(got.policy).split("@");
  expect(policy === spec.policy.name && /^\d{1,9}$/.test(number ?? "") && !more.length, `a decision of ${policy}`);
  expect(names.every((name) => real(got[name]) && real(f[name])), "finite numbers");
  expect(real(got.edge_ratio ?? 0) && (ceiling === null || real(ceiling)), "finite numbers");
  expect(names.every((name) => inside(f[name], bounds[name])), "multipliers within the bounds");
  expect(Array.isArray(groups) && groups.length <= 256, "at most 256 groups");
  expect(groups.every((g) => isObject(g) && typeof g.name === "string" && real(g.multiplier) &&
    inside(f.lr * g.multiplier, bounds.lr)), "groups within the bounds");
  expect(ceiling === null || inside(ceiling, [base.lr * bounds.lr[0], 1e6]), "a ceiling that only lowers");
  expect(ceiling === null || spec.trust !== "watch", "no ceiling, for trust watch changes nothing");
  for (const name of names)
    expect(same(got[name], Math.min(base[name] * f[name], name === "lr" ? ceiling ?? Infinity : Infinity)),
      `${name} to be base × multiplier`);
  expect(inside(got.momentum, [0, Math.max(bounds.max_momentum, base.momentum)]), "a momentum below its cap");
  expect(count(got.next_probe_in) && inside(got.next_probe_in, [1, 100 * spec.probe_interval]), "a probe in time");
  expect(Array.isArray(got.reasons) && got.reasons.length <= 64, "at most 64 reasons");
  expect(got.reasons.every((r) => typeof r === "string" && r.length <= 64 && REASON.test(r)), "reasons as codes");
  expect(REGIMES.includes(got.regime), "a regime");
  expect(["continue", "rollback", "stop"].includes(got.action), "an advice");
  expect(count(got.version), "a version");
  expect([got.replayed ?? false, got.persisted ?? false].every((x) => typeof x === "boolean"), "yes or no");
  expect(near(spec, law, got), `a decision within a factor of ${REACH} of the law's`);
  const { causes } = got; // words only: what is not one is left out
  const told = Array.isArray(causes) && causes.length <= 16 && causes.every((c) => isObject(c) && isObject(c.numbers) &&
    typeof c.code === "string" && c.code.length <= 64 && REASON.test(c.code) &&
    Object.keys(c.numbers).length <= 8 && Object.values(c.numbers).every(real));
  const { lr, momentum, weight_decay, attempt, step, regime, reasons, next_probe_in, action, version } = got;
  return {
    attempt, step, lr, momentum, weight_decay, regime, reasons, next_probe_in, action, version, policy: got.policy,
    multipliers: { lr: f.lr, momentum: f.momentum, weight_decay: f.weight_decay },
    replayed: got.replayed === true, persisted: got.persisted === true, ...(ceiling === null ? {} : { ceiling }),
    ...(got.edge_ratio == null ? {} : { edge_ratio: got.edge_ratio }), ...(got.groups == null ? {} : { groups }),
    ...(told ? { causes: causes.map(({ code, numbers }) => ({ code, numbers: { ...numbers } })) } : {}),
    ...(got.state == null ? {} : { state: got.state }),
  };
}
