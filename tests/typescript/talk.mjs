// A run of the built client that a test drives: node talk.mjs BUILT SPEC OPTIONS. An observation a line in; out, a line
// of JSON with the decision, how long it took in ms, and how the session stands. {"end": "finish"} ends it.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [built, spec, options] = process.argv.slice(2);
const { Client } = await import(pathToFileURL(`${built}/client.js`));
const client = new Client(JSON.parse(spec), JSON.parse(options));
const status = () => ({ waiting: client.waiting.length, lost: client.lost });

for await (const line of createInterface({ input: process.stdin })) {
  const said = JSON.parse(line), begun = performance.now();
  if (said.nan) said[said.nan] = NaN; // JSON has none
  const decision = said.end ? null : await client.decide(said);
  const told = said.end ? await client.end(said.end) : undefined;
  console.log(JSON.stringify({ decision, told, took: performance.now() - begun, ...status() }));
  if (said.end) break;
}
