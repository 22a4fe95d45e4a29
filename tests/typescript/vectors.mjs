// Walks the conformance vectors with the built client: node vectors.mjs BUILT VECTORS. One line of JSON for each policy.
import { readdirSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [built, folder] = process.argv.slice(2);
const { decide } = await import(pathToFileURL(`${built}/law.js`));
const { complete } = await import(pathToFileURL(`${built}/messages.js`));
const { START } = await import(pathToFileURL(`${built}/state.js`));

/** Where two JSON values differ by more than `tolerance`, relative; null if nowhere. */
function difference(golden, made, tolerance, where = "") {
  if (typeof golden === "number" && typeof made === "number")
    return Math.abs(golden - made) <= tolerance * Math.max(Math.abs(golden), Math.abs(made)) ? null : where;
  if (golden === null || made === null || typeof golden !== "object" || typeof made !== "object")
    return golden === made ? null : where;
  for (const key of new Set([...Object.keys(golden), ...Object.keys(made)])) {
    if (!(key in golden) || !(key in made)) return `${where}/${key} is only on one side`;
    const found = difference(golden[key], made[key], tolerance, `${where}/${key}`);
    if (found !== null) return found;
  }
  return null;
}

const nested = (state) =>
  Object.fromEntries(Object.entries(START).map(([name, start]) => {
    const said = state[name] ?? start;
    return [name, start && typeof start === "object" && !Array.isArray(start) ? { ...start, ...said } : said];
  }));

for (const file of readdirSync(folder).sort()) {
  const { policy, cases } = JSON.parse(readFileSync(`${folder}/${file}`, "utf-8"));
  let steps = 0, exact = 0;
  const faults = [];
  for (const { name, spec, steps: golden } of cases) {
    let state = START, version = 0;
    for (const step of golden) {
      const [decision, after] = decide(complete(spec), step.observation, state, version);
      const made = JSON.parse(JSON.stringify({ decision, state: after }));
      const wanted = { decision: step.decision, state: nested(step.state) };
      const fault = difference(wanted, made, 1e-12);
      if (fault !== null) faults.push(`${name}, step ${step.observation.step}: ${fault}`);
      steps += 1;
      exact += difference(wanted, made, 0) === null;
      [state, version] = [after, decision.version];
    }
  }
  console.log(JSON.stringify({ policy, cases: cases.length, steps, exact, faults: faults.slice(0, 5) }));
}
