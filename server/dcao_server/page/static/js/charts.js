// The charts of a run: which there are, and how they move together.

import { h } from "./dom.js";
import { METRIC } from "./series.js";
import { Chart } from "./chart.js";
import { attemptMarks, beyondSeries, edgeBand, lineAt, regimeStrip } from "./plugins.js";
import { onThemeChange } from "./theme.js";
import { regimes } from "./why.js";

const EDGE_BAND = [0.8, 1.2]; // what the controller calls "edge": within 20 % of the threshold
const SYNC = "run";

function regimeKey() {
  const words = Object.entries(regimes());
  const swatch = (name) => h("i", { class: "swatch", data: { regime: name } });
  return h(
    "details",
    { class: "glossary" },
    h(
      "summary",
      { class: "regime-key", "aria-label": "Colours of the strip: the regime at each decision. What they mean" },
      words.map(([name, sentence]) => h("span", { title: sentence }, swatch(name), name)),
      h("span", { class: "more" }, "what they mean"),
    ),
    h("dl", {}, words.flatMap(([name, sentence]) => [h("dt", {}, swatch(name), name), h("dd", {}, sentence)])),
  );
}

/** Whether a cause has been among the decisions so far, or is one of a policy that looks at the nearer of two edges. */
const drives = (series, code) =>
  series.spec.policy?.params?.reference === "nearest_edge" ||
  series.entries.some((entry) => entry.causes.some((cause) => cause.code === code));

const DEFINITIONS = (series, { spec } = series) => [
  {
    title: "Edge ratio",
    wide: true,
    height: 230,
    strip: 0.07, // room below 0 for the strip of regimes
    atLeast: 1.3,
    footer: regimeKey(),
    series: [
      { column: "edge", name: "η·ρ / threshold", colour: "blue", width: 2.2 },
      {
        column: "batchEdge",
        name: "for small batches",
        colour: "sky",
        dash: "dotted",
        width: 1.6,
        aside: true,
        hidden: (spec.policy?.name ?? "default") !== "default" && !drives(series, "batch-edge:lr"),
      },
    ],
    decorate: (series) => [edgeBand(...EDGE_BAND, 1), regimeStrip(series)],
  },
  {
    title: "Sharpness",
    log: true,
    height: 220,
    series: [
      { column: "rho", name: "ρ", colour: "blue", width: 2.2, whole: true },
      { column: "batchSharpness", name: "batch", colour: "sky", dash: "dotted", width: 1.6, whole: drives(series, "batch-edge:lr"), aside: true },
      { column: "limit", name: "edge at this η", colour: "vermillion", dash: "dashed", width: 1.6 },
    ],
    decorate: () => [beyondSeries(3)],
  },
  { title: "Spectral gap", floor: 0, height: 220, series: [{ column: "gamma", name: "γ", colour: "purple" }] },
  {
    title: "Learning rate",
    floor: 0,
    series: [
      { column: "lr", name: "η", colour: "green", stepped: true, width: 2.2 },
      {
        column: "baseLr",
        name: spec.scale === "path" ? "r/√G · shape" : "your schedule",
        colour: "grey",
        dash: "dashed",
        width: 1.4,
        stepped: true,
      },
      { column: "ceiling", name: "ceiling", colour: "vermillion", dash: "dashed", width: 1.6, stepped: true, aside: true },
    ],
  },
  {
    title: "Factors",
    atLeast: 1.1,
    floor: 0,
    series: [
      { column: "factorLr", name: spec.scale === "path" ? "η ÷ (r/√G · shape)" : "η ÷ schedule", colour: "blue", stepped: true, width: 2.2 },
      { column: "factorMomentum", name: "β", colour: "green", dash: "dotted", stepped: true, width: 1.6 },
      { column: "factorDecay", name: "λ", colour: "orange", dash: "dashed", stepped: true, width: 1.6 },
    ],
    decorate: () => [lineAt(1, "your own values")],
  },
  {
    title: "Loss",
    series: [{ column: "loss", name: "training loss", colour: "orange" }],
  },
  {
    title: "Momentum",
    series: [
      { column: "momentum", name: "β", colour: "green", stepped: true, width: 2.2 },
      { column: "baseMomentum", name: "without DCAO", colour: "grey", dash: "dashed", width: 1.4, stepped: true },
    ],
  },
  {
    title: "Weight decay",
    floor: 0,
    series: [
      { column: "decay", name: "λ", colour: "green", stepped: true, width: 2.2 },
      { column: "baseDecay", name: "without DCAO", colour: "grey", dash: "dashed", width: 1.4, stepped: true },
    ],
  },
];

export class Charts {
  /** onInspect(index | null): the decision under the cursor; onView(from, to, whole): the steps in sight. */
  constructor(series, { onInspect, onView }) {
    this.series = series;
    this.onInspect = onInspect;
    this.onView = onView;
    this.charts = DEFINITIONS(series).map((definition) => new Chart(definition));
    this.element = h("div", { class: "charts" }, this.charts.map((chart) => chart.element));
    this.window = null; // [from, to] in steps; null: the whole run
    this.following = true;
    this.quiet = false;
    this.inspected = null;
    this.pending = false;
    this.observer = new ResizeObserver(() => this.#resized());
    this.forgetTheme = onThemeChange(() => this.redraw());
  }

  start() {
    this.redraw();
    this.observer.observe(this.element);
  }

  redraw() {
    this.quiet = true;
    for (const chart of this.charts) this.#drawOne(chart);
    this.quiet = false;
    this.#apply();
  }

  /** New records: drawn once in the next frame however many came. */
  refresh() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.quiet = true;
      this.#addMetrics();
      for (const chart of this.charts) chart.u?.setData(this.#data(chart), false);
      this.quiet = false;
      this.#apply();
    });
  }

  /** A chart for each name that the user logged, when it first occurs. */
  #addMetrics() {
    for (const column of this.series.metrics) {
      if (this.charts.some((chart) => chart.options.series[0].column === column)) continue;
      const name = column.slice(METRIC.length);
      const chart = new Chart({ title: name, gaps: true, series: [{ column, name: "logged", colour: "purple" }] });
      this.charts.push(chart);
      this.element.append(chart.element);
      this.#drawOne(chart);
    }
  }

  #drawOne(chart) {
    chart.draw(this.#data(chart), {
      sync: SYNC,
      onZoom: (u) => this.#zoomed(u),
      onCursor: (u) => this.#cursor(u),
      plugins: [...(chart.options.decorate?.(this.series) ?? []), attemptMarks(this.series)],
    });
  }

  #data(chart) {
    const { columns } = this.series;
    return [columns.step, ...chart.options.series.map((line) => columns[line.column])];
  }

  #whole() {
    const { step } = this.series.columns;
    if (!step.length) return [0, 1];
    const [first, last] = [step[0], step.at(-1)];
    return first === last ? [first - 1, last + 1] : [first, last];
  }

  #apply() {
    const [first, last] = this.#whole();
    if (this.window && this.following) {
      const width = this.window[1] - this.window[0];
      this.window = [Math.max(first, last - width), last];
    }
    const [from, to] = this.window ?? [first, last];
    this.quiet = true;
    for (const chart of this.charts) chart.u?.setScale("x", { min: from, max: to });
    this.quiet = false;
    this.#values();
    this.#describe(from, to);
    this.onView(from, to, this.window === null);
  }

  /** What is in sight, in words, when it has been in sight for a moment. */
  #describe(from, to) {
    clearTimeout(this.describing);
    this.describing = setTimeout(() => {
      const { columns } = this.series;
      const begin = columns.step.findIndex((step) => step >= from);
      const part = (column) => (begin < 0 ? [] : column.slice(begin, this.series.indexAt(to) + 1));
      for (const chart of this.charts) chart.describe(part(columns.step), chart.options.series.map((line) => part(columns[line.column])));
    }, 300);
  }

  #values() {
    const index = this.inspected ?? (this.series.length ? this.series.length - 1 : null);
    for (const chart of this.charts) chart.show(this.series.columns, index);
  }

  #zoomed(u) {
    if (this.quiet) return;
    const { min, max } = u.scales.x;
    const [first, last] = this.#whole();
    const whole = min <= first && max >= last;
    this.window = whole ? null : [min, max];
    this.following = whole || max >= last;
    this.quiet = true;
    for (const chart of this.charts) if (chart.u !== u) chart.u?.setScale("x", { min, max });
    this.quiet = false;
    this.#describe(min, max);
    this.onView(min, max, this.window === null);
  }

  #cursor(u) {
    if (this.quiet) return;
    const index = u.cursor.left >= 0 ? (u.cursor.idx ?? null) : null;
    if (index === this.inspected) return;
    this.inspected = index;
    this.#values();
    this.onInspect(index);
  }

  #resized() {
    this.quiet = true;
    for (const chart of this.charts) chart.resize();
    this.quiet = false;
  }

  /** Zooms around the middle of what is in sight, or its end while following; factor < 1 goes in. */
  zoom(factor) {
    const [first, last] = this.#whole();
    const [from, to] = this.window ?? [first, last];
    const anchor = this.inspected === null ? (this.following ? to : (from + to) / 2) : this.series.columns.step[this.inspected];
    const min = Math.max(first, anchor - (anchor - from) * factor);
    const max = Math.min(last, anchor + (to - anchor) * factor);
    if (max - min < 1) return;
    this.window = min <= first && max >= last ? null : [min, max];
    this.#apply();
  }

  /** Shows some steps; what does not fit into the run shows the whole of it. */
  lookAt(from, to) {
    const [first, last] = this.#whole();
    if (!(to > from) || to <= first || from >= last) return;
    this.window = [Math.max(from, first), Math.min(to, last)];
    this.following = false;
    this.#apply();
  }

  showAll() {
    this.window = null;
    this.following = true;
    this.#apply();
  }

  follow(on) {
    this.following = on;
    if (on) this.#apply();
  }

  /** Moves the cursor by some decisions; null takes it away. */
  inspect(delta) {
    if (!this.series.length) return;
    const current = this.inspected ?? this.series.length - 1;
    const index = delta === null ? null : Math.min(this.series.length - 1, Math.max(0, current + delta));
    this.quiet = true;
    for (const { u } of this.charts) {
      if (!u) continue;
      const left = index === null ? -10 : u.valToPos(this.series.columns.step[index], "x");
      u.setCursor({ left, top: index === null ? -10 : u.over.clientHeight / 2 }, false);
    }
    this.quiet = false;
    this.inspected = index;
    this.#values();
    this.onInspect(index);
  }

  destroy() {
    clearTimeout(this.describing);
    this.observer.disconnect();
    this.forgetTheme();
    for (const chart of this.charts) chart.destroy();
  }
}
