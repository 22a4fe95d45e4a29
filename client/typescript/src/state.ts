// What a law remembers from one decision to the next, and the token in which it travels.

import type { FullSpec, Observation, Values } from "./messages.js";

export type Statistics = { mean: number; variance: number; count: number };
export type State = {
  step: number | null; fingerprint: string | null; calibration: [number, number][];
  rho_ref: number | null; gamma_ref: number | null; lr_ref: number | null; log_rho: number | null;
  gamma: number | null; window: number[]; outliers: number; sharpness: number | null; retreat: number;
  factors: Values; diverged: number; at_bound: number; at_bound_total: number; loss: Statistics; rho: Statistics;
};
const NONE: Statistics = { mean: 0, variance: 0, count: 0 };
export const ONE: Values = { lr: 1, momentum: 1, weight_decay: 1 };
export const START: State = {
  step: null, fingerprint: null, calibration: [], rho_ref: null, gamma_ref: null, lr_ref: null, log_rho: null,
  gamma: null, window: [], outliers: 0, sharpness: null, retreat: 1, factors: ONE, diverged: 0, at_bound: 0,
  at_bound_total: 0, loss: NONE, rho: NONE,
};

/** Exponentially weighted mean and variance; saturates instead of overflowing. */
function updated(old: Statistics, value: number): Statistics {
  if (old.count === 0) return { mean: value, variance: 0, count: 1 };
  const gain = Math.max(1 - 0.9, 1 / (old.count + 1)), delta = value - old.mean;
  const mean = old.mean + gain * delta, variance = (1 - gain) * (old.variance + gain * delta * delta);
  return Number.isFinite(mean) && Number.isFinite(variance) ? { mean, variance, count: old.count + 1 } : old;
}

/** What every observation changes, used or not. */
export function remember(state: State, seen: Observation): State {
  const loss = seen.loss == null ? state.loss : updated(state.loss, seen.loss);
  return { ...state, step: seen.step, loss, rho: seen.rho == null ? state.rho : updated(state.rho, seen.rho) };
}

const real = (x: unknown): x is number => typeof x === "number" && Number.isFinite(x);
const above = (low: number, most = Infinity) => (x: unknown) => real(x) && x > low && x <= most;
const positive = above(0), none = (check: (x: unknown) => boolean) => (x: unknown) => x === null || check(x);
const count = (x: unknown) => Number.isSafeInteger(x) && (x as number) >= 0;
const least0 = (x: unknown) => real(x) && x >= 0;
const list = (most: number, check: (x: unknown) => boolean) => (x: unknown) =>
  Array.isArray(x) && x.length <= most && x.every(check);
const parts = (checks: Record<string, (x: unknown) => boolean>) => (x: unknown) =>
  typeof x === "object" && x !== null &&
  Object.entries(checks).every(([name, check]) => check((x as Record<string, unknown>)[name]));
const statistics = parts({ mean: real, variance: least0, count });
const CHECKS: Record<keyof State, (x: unknown) => boolean> = {
  step: none(count), fingerprint: none((x) => typeof x === "string" && x.length <= 128),
  calibration: list(64, (x) => Array.isArray(x) && x.length === 2 && real(x[0]) && least0(x[1])),
  rho_ref: none(positive), gamma_ref: none(positive), lr_ref: none(least0), log_rho: none(real),
  gamma: none(least0), window: list(9, real), outliers: count, sharpness: none(positive),
  retreat: (x) => real(x) && x >= 2 ** -20 && x <= 1,
  factors: parts({ lr: least0, momentum: least0, weight_decay: least0 }),
  diverged: count, at_bound: count, at_bound_total: count, loss: statistics, rho: statistics,
};

function decoded(segment: string): Record<string, unknown> {
  const bytes = Uint8Array.from(atob(segment.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
}
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, x) => (x && typeof x === "object" && !Array.isArray(x) ? Object.entries(x).sort() : x));

function crc32(text: string): string {
  let crc = -1;
  for (let i = 0; i < text.length; i++) {
    crc ^= text.charCodeAt(i);
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return (~crc >>> 0).toString(16).padStart(8, "0");
}

/** The token of a state, under a specification as it stands in another token of the run. */
export function writeToken(segment: string, state: State): string {
  const bytes = Array.from(new TextEncoder().encode(JSON.stringify(state)), (byte) => String.fromCharCode(byte));
  const said = btoa(bytes.join("")).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  return `dcao1.${segment}.${said}.${crc32(`${segment}.${said}`)}`;
}

/** The state in a token of this run; null if it is none. What a newer law remembers besides is left out. */
export function readToken(token: unknown, spec: FullSpec): State | null {
  if (typeof token !== "string" || token.length > 65536 || !/^[\x20-\x7e]+$/.test(token)) return null;
  const [prefix, ofSpec, ofState, checksum, ...more] = token.split(".");
  if (prefix !== "dcao1" || !ofSpec || ofState === undefined || more.length > 0) return null;
  if (checksum !== crc32(`${ofSpec}.${ofState}`)) return null;
  try {
    const run = decoded(ofSpec), said = decoded(ofState), state = { ...START } as Record<string, unknown>;
    for (const name of ["optimizer", "base", "policy", "bounds", "probe_interval"] as const)
      if (canonical(run[name]) !== canonical(spec[name])) return null;
    for (const [name, check] of Object.entries(CHECKS)) {
      if (!Object.hasOwn(said, name)) continue;
      if (!check(said[name])) return null;
      state[name] = said[name];
    }
    return state as State;
  } catch {
    return null;
  }
}
