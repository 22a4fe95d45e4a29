// Runs side by side: the same charts by step or by wall time, where their specifications differ, and what another law
// would have decided. What is chosen is in the address.

import { addressOf, keepInAddress } from "./address.js";
import { getJson, Problem, replayed, runPath } from "./api.js";
import { Chart } from "./chart.js";
import { h } from "./dom.js";
import { number } from "./format.js";
import { differences } from "./differences.js";
import { METRIC, Series } from "./series.js";
import { smoothed } from "./smoothing.js";
import { onThemeChange } from "./theme.js";

export const MOST = 20;
const POINTS = 600;
const AGAIN_MS = 150;
const COLOURS = ["blue", "orange", "green", "vermillion", "sky", "purple", "grey", "ink"];
const DASHES = ["solid", "dashed", "dotted"];
const CHARTS = [
  ["edge", "Edge ratio"],
  ["rho", "Sharpness"],
  ["lr", "Learning rate"],
  ["loss", "Loss"],
];

export class CompareView {
  constructor({ setLink, onProblem, query }) {
    Object.assign(this, { setLink, onProblem });
    this.abort = new AbortController();
    this.names = [...new Set(query.getAll("run"))].filter((name) => /^[^/]+\/[^/]+$/.test(name)).slice(0, MOST);
    this.state = {
      x: query.get("x") === "time" ? "time" : "step",
      smooth: Math.min(0.99, Math.max(0, Number(query.get("smooth")) || 0)),
      log: query.get("log") === "true",
      whatif: query.get("whatif") ?? "", // "project/run@policy"
    };
    this.lines = []; // {name, href, series, steps, times, columns}
    this.charts = [];
    this.runs = [];
    this.element = h("div", {}, h("p", { class: "empty muted" }, "Loading the runs …"));
    this.forgetTheme = onThemeChange(() => this.#draw());
    this.observer = new ResizeObserver(() => this.charts.forEach((chart) => chart.resize()));
  }

  async start() {
    if (this.names.length < 1) {
      this.element.replaceChildren(h("p", { class: "empty" }, "Choose two runs or more in the list, and press Compare."));
      return;
    }
    this.runs = await Promise.all(this.names.map((name) => this.#load(name)));
    if (this.abort.signal.aborted) return;
    this.lines = this.runs.map(({ run, records }) => lineOf(run, records));
    this.#build();
    this.setLink("ended", "a picture of now");
    await this.#whatIf();
    this.#loadPolicies();
  }

  async #load(name) {
    const [project, run] = name.split("/");
    const path = runPath(project, run);
    const found = await getJson(path, { signal: this.abort.signal });
    for (;;) {
      const outline = await getJson(`${path}/outline?points=${POINTS}`, { signal: this.abort.signal });
      if (outline.complete) return { run: found, records: outline.records };
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }

  #build() {
    const toggle = (text, pressed, act) => h("button", { class: "ghost", type: "button", "aria-pressed": String(pressed), onclick: act }, text);
    this.axis = h("div", { class: "chips", role: "group", "aria-label": "Along" });
    this.scale = h("div", { class: "chips" });
    this.smooth = h("input", { type: "range", min: 0, max: 0.99, step: 0.01, "aria-label": "Smoothing", oninput: () => this.#set({ smooth: Number(this.smooth.value) }) });
    this.smooth.value = this.state.smooth;
    this.run = h("select", { "aria-label": "Run to replay" }, this.names.map((name) => h("option", { value: name }, name)));
    this.policy = h("select", { "aria-label": "Law to replay under" }, h("option", { value: "" }, "as it was"));
    this.replay = toggle("Replay", false, () => this.#set({ whatif: this.policy.value ? `${this.run.value}@${this.policy.value}` : "" }));
    this.replay.removeAttribute("aria-pressed");
    this.said = h("p", { class: "muted", role: "status" });
    this.places = h("div", { class: "charts" });
    this.controls = () => {
      const choose = (x) => toggle(x === "step" ? "by step" : "by wall time", this.state.x === x, () => this.#set({ x }));
      this.axis.replaceChildren(choose("step"), choose("time"));
      this.scale.replaceChildren(toggle("log", this.state.log, () => this.#set({ log: !this.state.log })));
    };
    this.controls();
    this.element.replaceChildren(
      h("div", { class: "page-head" }, h("h1", {}, `Compare ${this.names.length} runs`), this.axis, this.scale, h("label", { class: "inline" }, "smooth ", this.smooth)),
      h("div", { class: "page-head" }, h("span", {}, "What if "), this.run, h("span", {}, " had run under "), this.policy, this.replay, this.said),
      this.places,
      h("section", { class: "card table-card apart" }, h("h2", {}, "Where their specifications differ"), differences(this.runs.map(({ run }) => run))),
    );
    this.#draw();
    this.observer.observe(this.places);
  }

  async #loadPolicies() {
    try {
      const { policies } = await getJson("/v1/policies", { signal: this.abort.signal });
      this.policy.append(...policies.map(({ name }) => h("option", { value: name }, name)));
      const [run, policy] = this.state.whatif.split("@");
      if (policy) [this.run.value, this.policy.value] = [run, policy];
    } catch (error) {
      if (!this.abort.signal.aborted) this.said.textContent = `The laws could not be listed: ${error.message}`;
    }
  }

  #set(changes) {
    const asked = this.state.whatif;
    this.state = { ...this.state, ...changes };
    keepInAddress(["compare"], { run: this.names, ...this.state, smooth: this.state.smooth || "", x: this.state.x === "step" ? "" : this.state.x });
    this.controls();
    if (this.state.whatif !== asked) this.#whatIf();
    this.#draw();
  }

  /** The replayed run is one more line, dashed, beside the one that was. */
  async #whatIf() {
    this.lines = this.lines.filter((line) => !line.replayed);
    const [name, policy] = this.state.whatif.split("@");
    const place = this.names.indexOf(name);
    if (place < 0 || !policy) return this.#draw();
    this.said.textContent = `Replaying ${name} under ${policy} …`;
    try {
      const [project, run] = name.split("/");
      const decisions = await replayed(runPath(project, run), policy, POINTS, this.abort.signal);
      if (this.state.whatif !== `${name}@${policy}`) return;
      this.lines.splice(place + 1, 0, replayedLine(this.lines[place], policy, decisions));
      this.said.textContent = `What ${policy} would have decided from what was measured. Training would then have gone otherwise.`;
    } catch (error) {
      if (this.abort.signal.aborted) return;
      this.said.textContent = error instanceof Problem ? `${error.title}: ${error.message}` : "The controller is away; try again.";
    }
    this.#draw();
  }

  #draw() {
    if (!this.places) return;
    const { x, smooth, log } = this.state;
    const metrics = [...new Set(this.lines.flatMap((line) => line.series.metrics))].sort();
    const wanted = [...CHARTS, ...metrics.map((column) => [column, column.slice(METRIC.length)])];
    for (const chart of this.charts) chart.destroy();
    this.charts = wanted.map(([column, title]) => {
      const lines = this.lines.filter((line) => valuesOf(line, column).some((value) => value !== null));
      const series = lines.map((line) => ({ column: line.name, name: line.name, colour: line.colour(this.lines), dash: line.dash(this.lines), width: 1.8 }));
      const chart = new Chart({ title: x === "time" ? `${title}, by seconds since the start` : title, series, log, floor: null, gaps: true, height: 230 });
      chart.lines = lines.map((line) => {
        const values = smoothed(valuesOf(line, column), smooth).map((value) => (log && !(value > 0) ? null : value));
        return [line[x === "time" ? "times" : "steps"], values];
      });
      return chart;
    });
    this.places.replaceChildren(...this.charts.map((chart) => chart.element));
    for (const chart of this.charts) {
      const data = chart.lines.length ? globalThis.uPlot.join(chart.lines) : [[0, 1]];
      chart.draw(data, { sync: `compare-${x}`, onZoom: () => {}, onCursor: (u) => showValues(chart, u), plugins: [] });
      showValues(chart, chart.u);
      chart.describe(data[0], data.slice(1));
    }
  }

  key(event) {
    if (event.key !== "Escape") return false;
    location.hash = addressOf([]);
    return true;
  }

  stop() {
    this.abort.abort();
    this.observer.disconnect();
    this.forgetTheme();
    for (const chart of this.charts) chart.destroy();
  }
}

const placeOf = (line, lines) => lines.filter((other) => !other.replayed).indexOf(line.of ?? line);
const valuesOf = (line, column) => line.columns[column] ?? [];

function lineOf(run, records) {
  const series = new Series(run.spec);
  series.replace(records);
  const began = series.entries[0]?.at ?? 0;
  const line = {
    name: `${run.project}/${run.run}`,
    replayed: false,
    series,
    steps: series.columns.step,
    times: increasing(series.entries.map((entry) => entry.at - began)),
    columns: series.columns,
    colour: (lines) => COLOURS[placeOf(line, lines) % COLOURS.length],
    dash: (lines) => DASHES[Math.floor(placeOf(line, lines) / COLOURS.length)],
  };
  return line;
}

function replayedLine(line, policy, decisions) {
  // The lineage that lives on, as in the line that was: of each step the newest attempt's decision.
  const byStep = new Map();
  let newest = 0;
  for (const decision of decisions) {
    if (decision.attempt > newest) for (const step of byStep.keys()) if (step >= decision.step) byStep.delete(step);
    newest = decision.attempt;
    byStep.set(decision.step, decision);
  }
  const kept = [...byStep.values()].sort((a, b) => a.step - b.step);
  return {
    ...line,
    name: `${line.name} under ${policy}`,
    replayed: true,
    of: line,
    steps: kept.map(({ step }) => step),
    times: increasing(kept.map(({ step }) => line.times[line.series.indexAt(step)] ?? 0)),
    columns: { edge: kept.map((decision) => decision.edge_ratio ?? null), lr: kept.map((decision) => decision.lr) },
    colour: line.colour,
    dash: () => "dotted",
  };
}

/** A chart's x must grow: equal times, as of a backfill, are set a millisecond apart. */
function increasing(times) {
  let last = -Infinity;
  return times.map((time) => (last = time > last ? time : last + 1e-3));
}

/** Values at the cursor, or the last ones. */
function showValues(chart, u) {
  const index = u && u.cursor.left >= 0 ? u.cursor.idx : null;
  chart.values.forEach((place, i) => {
    const column = u?.data[i + 1] ?? [];
    let at = Math.min(index ?? column.length - 1, column.length - 1);
    while (at >= 0 && (column[at] === null || column[at] === undefined)) at -= 1;
    place.textContent = at < 0 ? "" : number(column[at], 4);
  });
}
