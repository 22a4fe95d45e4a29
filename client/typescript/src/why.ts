// A decision in sentences, as proto/dcao_proto/policy/why.py has it, from the table that reasons.ts is made from.

import type { Decision } from "./messages.js";
import { SENTENCES } from "./reasons.js";

/** About three significant digits; a power of ten from five digits on and below a thousandth. */
export function spell(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value), bare = (text: string) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  let text: string;
  if (size >= 1000 && size < 1e5) text = `${Math.sign(value) * Math.round(size)}`;
  else if (size >= 1e5 || size < 1e-3) {
    const [mantissa, exponent] = value.toExponential(2).split("e");
    text = `${bare(mantissa!)}e${exponent!.replace("+", "")}`;
  } else text = bare(value.toPrecision(3).includes("e") ? String(Number(value.toPrecision(3))) : value.toPrecision(3));
  return text.replaceAll("-", "\u2212");
}

/** The sentences of a decision: its causes, then those of its reasons that no cause speaks for. */
export function why(decision: Decision, before?: Decision | null, sentences = SENTENCES): string[] {
  const known = values(decision, before ?? null), causes = decision.causes ?? [];
  const spoken = new Set(causes.map(({ code }) => code));
  const spelt = (numbers: Record<string, number>) =>
    Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, spell(value)]));
  const said = causes.map(({ code, numbers }) => say(code, { ...known, ...spelt(numbers) }, sentences));
  for (const reason of decision.reasons) if (!spoken.has(reason)) said.push(say(reason, known, sentences));
  return [...new Set(said)];
}

type Words = Record<string, string>;

function values(decision: Decision, before: Decision | null): Words {
  const { lr, momentum, weight_decay } = decision.multipliers;
  const words: Words = { f: spell(lr), g: spell(momentum), h: spell(weight_decay) };
  for (const name of ["lr", "momentum", "weight_decay"] as const) {
    const now = spell(decision[name]), then = before?.version === decision.version - 1 ? spell(before[name]) : now;
    words[name] = then === now ? now : `${then} \u2192 ${now}`;
  }
  return words;
}

const PLACE = /\{([a-z][a-z0-9_]*)\}/g;
const has = (words: Words, name: string) => Object.hasOwn(words, name);
const fill = (text: string, words: Words) =>
  text.replace(PLACE, (_, name: string) => (has(words, name) ? words[name]! : "?"));
const holds = (part: string, words: Words) => [...part.matchAll(PLACE)].every(([, name]) => has(words, name!));

function say(code: string, words: Words, sentences: Readonly<Record<string, string>>): string {
  if (!Object.hasOwn(sentences, code)) return code;
  return fill(sentences[code]!.replace(/\[([^[\]]*)\]/g, (_, part: string) => (holds(part, words) ? fill(part, words) : "")), words);
}
