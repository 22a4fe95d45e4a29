// A decision in sentences, as proto/dcao_proto/policy/why.py has it, from the one table of words that is made there.

import { number } from "./format.js";

let table = { sentences: {}, regimes: {}, actions: {} };
export async function loadWords() {
  const response = await fetch("/static/reasons.json");
  if (response.ok) table = await response.json();
}

/** Every regime with its sentence, in the order of the glossary. */
export const regimes = () => table.regimes;
export const regimeWords = (name) => table.regimes[name] ?? "";
export const actionWords = (name) => table.actions[name] ?? "";

const PLACE = /\{([a-z][a-z0-9_]*)\}/g;
const fill = (text, words) => text.replace(PLACE, (_, name) => (Object.hasOwn(words, name) ? words[name] : "?"));
const holds = (part, words) => [...part.matchAll(PLACE)].every(([, name]) => Object.hasOwn(words, name));

function say(code, words) {
  const sentence = Object.hasOwn(table.sentences, code) ? table.sentences[code] : code; // a plug-in's without one
  return fill(sentence.replace(/\[([^[\]]*)\]/g, (_, part) => (holds(part, words) ? fill(part, words) : "")), words);
}

/** The values of a decision: from what to what where the one before is the one just before. */
function values(entry, before) {
  const move = (now, then) => {
    const [to, from] = [number(now), before?.version === entry.version - 1 ? number(then) : number(now)];
    return to === from ? to : `${from} → ${to}`;
  };
  return {
    lr: move(entry.lr, before?.lr),
    momentum: move(entry.momentum, before?.momentum),
    weight_decay: move(entry.decay, before?.decay),
    f: number(entry.multipliers.lr),
    g: number(entry.multipliers.momentum),
    h: number(entry.multipliers.weight_decay),
  };
}

/** [[code, sentence], …]: causes, then those reasons that no cause speaks for. Entries are those of series.js. */
export function why(entry, before = null) {
  const known = values(entry, before);
  const spelt = (numbers) => Object.fromEntries(Object.entries(numbers ?? {}).map(([name, value]) => [name, number(value)]));
  const spoken = new Set(entry.causes.map(({ code }) => code));
  const said = entry.causes.map(({ code, numbers }) => [code, say(code, { ...known, ...spelt(numbers) })]);
  for (const reason of entry.reasons) if (!spoken.has(reason)) said.push([reason, say(reason, known)]);
  const heard = new Set();
  return said.filter(([, sentence]) => !heard.has(sentence) && heard.add(sentence));
}
