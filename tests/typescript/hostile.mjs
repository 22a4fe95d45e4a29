// Runs of the built client against whatever answers: node hostile.mjs BUILT URL ANSWERS DEADLINE. Prints what it saw.
import { pathToFileURL } from "node:url";

const [built, url, answers, deadline] = process.argv.slice(2);
const { Client } = await import(pathToFileURL(`${built}/client.js`));
console.warn = () => {};

const base = { lr: 0.1, momentum: 0.9, weight_decay: 5e-4 };
const within = (x, low, high) => x >= low * (1 - 1e-8) && x <= high * (1 + 1e-8);
const allowed = (d) =>
  within(d.lr, 0.05, 0.2) && within(d.momentum, 0.45, 0.99) && within(d.weight_decay, 2.5e-4, 1e-3) &&
  within(d.multipliers.lr, 0.5, 2) && d.next_probe_in >= 1 && d.next_probe_in <= 1000 &&
  (d.ceiling === undefined || within(d.ceiling, 0.05, 1e6)) && (d.groups ?? []).every((g) => g.multiplier <= 4);
const count = async () => Number(await (await fetch(`${url}/count`)).text());

let decisions = 0, used = 0, wrong = 0, longest = 0, peak = 0, run = 0;
const started = process.memoryUsage().rss;
do {
  const client = new Client({ optimizer: "sgd", base, probe_interval: 10 },
    { run: `ts${run++}`, url, deadline: Number(deadline), pause: 1 });
  for (let i = 0; i < 60; i++) {
    const begun = performance.now();
    const decision = await client.decide({ step: 10 * i, rho: 20 * Math.exp(Math.sin(i)), gamma: 4, loss: 1 / (1 + i) });
    longest = Math.max(longest, performance.now() - begun);
    decisions += 1;
    used += decision.persisted;
    wrong += !allowed(decision) || decision.step !== 10 * i;
    peak = Math.max(peak, process.memoryUsage().rss);
    await new Promise((go) => setTimeout(go, 2)); // a training step
  }
  await client.end("finish", undefined, 50);
} while ((await count()) < Number(answers));
console.log(JSON.stringify({ decisions, used, wrong, longest, grown: (peak - started) / 2 ** 20 }));
process.exit(0); // what still drips is not waited for
