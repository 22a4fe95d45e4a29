// Which answers the built client believes: node judge.mjs BUILT FILE, where FILE has {spec, asked} and then an answer in
// base64 on each line. One line out for each: the decision, or null.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [built, file] = process.argv.slice(2);
const { believed } = await import(pathToFileURL(`${built}/judge.js`));
const { decide } = await import(pathToFileURL(`${built}/law.js`));
const { complete } = await import(pathToFileURL(`${built}/messages.js`));
const { readToken, START } = await import(pathToFileURL(`${built}/state.js`));

const [head, ...answers] = readFileSync(file, "utf-8").trim().split("\n");
const { spec, asked } = JSON.parse(head);
const [law] = decide(complete(spec), asked, START, 0);
for (const answer of answers) {
  let decision = null;
  try {
    decision = believed(complete(spec), asked, JSON.parse(Buffer.from(answer, "base64").toString("utf-8")), law);
    if (decision.state !== undefined && readToken(decision.state, complete(spec)) === null) decision = null;
  } catch {
    // not believed
  }
  console.log(JSON.stringify(decision));
}
