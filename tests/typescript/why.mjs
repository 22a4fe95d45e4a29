// Says decisions in sentences with the built client: node why.mjs BUILT < JSON. {numbers, decisions}: of each decision the
// one before it and itself.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { spell, why } = await import(pathToFileURL(`${process.argv[2]}/why.js`));
const { numbers, decisions } = JSON.parse(readFileSync(0, "utf-8"));
const said = decisions.map(([before, decision]) => why(decision, before));
console.log(JSON.stringify({ numbers: numbers.map(spell), said }));
