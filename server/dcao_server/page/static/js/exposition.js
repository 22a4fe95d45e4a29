// What this page needs of Prometheus' text format: the live runs of every project in one request.

const SAMPLE = /^([a-z_]+)\{([^}]*)\} (\S+)$/;
const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g;
const UNESCAPE = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };

function labels(text) {
  const found = {};
  for (const [, name, value] of text.matchAll(LABEL)) found[name] = value.replace(/\\[n"\\]/g, (escaped) => UNESCAPE[escaped]);
  return found;
}

/** Map of "project/run" to {project, run, info, metric name without dcao_run_: value}. */
export function liveRuns(text) {
  const runs = new Map();
  for (const line of text.split("\n")) {
    const match = SAMPLE.exec(line);
    if (!match || !match[1].startsWith("dcao_run_")) continue;
    const of = labels(match[2]);
    if (!of.project || !of.run) continue;
    const name = `${of.project}/${of.run}`;
    if (!runs.has(name)) runs.set(name, { project: of.project, run: of.run, info: {} });
    const entry = runs.get(name);
    const metric = match[1].slice("dcao_run_".length);
    if (metric === "info") entry.info = of;
    else if (!("reason" in of) && !("outcome" in of)) entry[metric] = Number(match[3]);
  }
  return runs;
}
