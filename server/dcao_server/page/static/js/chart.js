// One uPlot chart in this page's manner, and the group that moves and zooms together.

import { h, s } from "./dom.js";
import { number, tick } from "./format.js";
import { colour } from "./theme.js";

const uPlot = globalThis.uPlot;
const DASHES = { solid: null, dashed: [7, 4], dotted: [2, 3] };

/** 1-2-5 ticks of a logarithmic axis; with more than four decades only the powers of ten. */
export function logTicks(low, high) {
  const decades = Math.log10(high / low);
  const mantissas = decades > 4 ? [1] : decades > 1.4 ? [1, 3] : [1, 2, 3, 5];
  const ticks = [];
  for (let exponent = Math.floor(Math.log10(low)); exponent <= Math.ceil(Math.log10(high)); exponent += 1) {
    for (const mantissa of mantissas) {
      const value = mantissa * 10 ** exponent;
      if (value >= low && value <= high) ticks.push(value);
    }
  }
  return ticks.length > 1 ? ticks : [low, Math.sqrt(low * high), high];
}

const BEYOND = 1000; // a line that is there for comparison stretches the scale by three decades at most

/** The lines that a chart is about are whole, always; the others stretch it so far and no further. */
function logRange(series) {
  return (u, low, high) => {
    const [first, last] = u.series[0].idxs ?? [0, -1];
    let [least, most] = [Infinity, 0];
    series.forEach((line, i) => {
      if (!line.whole || !u.series[i + 1].show) return;
      for (let j = first; j <= last; j += 1) {
        const value = u.data[i + 1][j];
        if (value > 0) [least, most] = [Math.min(least, value), Math.max(most, value)];
      }
    });
    if (most === 0) return low > 0 && high > 0 ? [Math.max(low / 2, high / BEYOND), high * 1.3] : [0.1, 10];
    const bottom = low > 0 ? Math.max(low, least / BEYOND) : least;
    const top = high > 0 ? Math.min(high, most * BEYOND) : most;
    return [Math.min(bottom, least) / 2, Math.max(top, most) * 1.3];
  };
}

/** Room above and below; a constant series gets a tenth of its value rather than a line along the frame. */
function linearRange({ floor = null, atLeast = null, strip = 0 }) {
  return (u, low, high) => {
    if (low === null || high === null) return [0, atLeast ?? 1];
    if (strip) {
      const top = Math.max(high * 1.08, atLeast ?? 0);
      return [Math.min(low * 1.1, -strip * top), top];
    }
    const room = (high - low || Math.abs(high) || 1) * 0.1;
    const bottom = floor !== null && low >= floor ? Math.max(floor, low - room) : low - room;
    return [floor === 0 && low >= 0 && low < 0.5 * high ? 0 : bottom, Math.max(high + room, atLeast ?? -Infinity)];
  };
}

function axes(log, strip = 0) {
  const font = "11.5px Inter, system-ui, sans-serif";
  const common = {
    stroke: colour("ink-3"),
    font,
    grid: { stroke: colour("grid"), width: 1 },
    ticks: { show: false },
  };
  const x = { ...common, size: 30, space: 70, values: (u, ticks) => ticks.map((v) => (v % 1 ? "" : v.toLocaleString("en"))) };
  const y = { ...common, size: 56, space: 34, values: (u, ticks) => ticks.map(tick) };
  if (strip) y.filter = (u, ticks) => ticks.map((value) => (value < 0 && u.scales.y.min > -strip * u.scales.y.max - 1e-9 ? null : value));
  if (log) {
    y.splits = (u, index, low, high) => logTicks(low, high);
    y.filter = (u, ticks) => ticks;
  }
  return [x, y];
}

export class Chart {
  /**
   * @param {{title, series: [{column, name, colour, dash?, width?, stepped?, aside?, hidden?, whole?}], log?, floor?, strip?, atLeast?, height?, wide?}} options
   */
  constructor(options) {
    this.options = options;
    this.visible = options.series.map((series) => series.hidden !== true);
    this.plot = h("div", { class: "plot" });
    this.values = options.series.map(() => h("b", {}, ""));
    this.element = h(
      "section",
      { class: `card chart${options.wide ? " wide" : ""}`, "aria-label": options.title, tabindex: "0" },
      h("div", { class: "chart-head" }, h("h3", {}, options.title), this.#key()),
      this.plot,
      options.footer ?? null,
    );
    this.u = null;
  }

  #key() {
    const dash = (name) => (DASHES[name ?? "solid"] ?? []).join(" ");
    const keys = this.options.series.map((series, i) =>
      h(
        "button",
        { class: "series-key", type: "button", title: "Show or hide", "aria-pressed": String(this.visible[i]), onclick: (event) => this.#toggle(i, event.currentTarget) },
        s(
          "svg",
          { width: 20, height: 8, "aria-hidden": "true" },
          s("line", { x1: 0, y1: 4, x2: 20, y2: 4, stroke: `var(--${series.colour})`, "stroke-width": series.width ?? 2, "stroke-dasharray": dash(series.dash) }),
        ),
        series.name,
        this.values[i],
      ),
    );
    return h("div", { class: "keys-line" }, keys);
  }

  #toggle(i, key) {
    this.visible[i] = !this.visible[i];
    key.setAttribute("aria-pressed", String(this.visible[i]));
    this.u?.setSeries(i + 1, { show: this.visible[i] });
  }

  draw(data, { sync, onZoom, onCursor, plugins }) {
    this.destroy();
    const { options } = this;
    const lines = options.series.map((series, i) => ({
      label: series.name,
      show: this.visible[i],
      stroke: colour(series.colour),
      width: series.width ?? 2,
      dash: DASHES[series.dash ?? "solid"] ?? undefined,
      spanGaps: options.gaps === true, // runs that are compared have values at different steps
      auto: series.aside !== true, // one that is aside does not stretch the scale
      paths: series.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
      points: { show: (u, j, first, last) => !series.dash && last - first < 40, size: 5, fill: colour(series.colour), stroke: colour(series.colour) },
    }));
    this.u = new uPlot(
      {
        width: this.#width(),
        height: options.height ?? 190,
        padding: [10, 22, 0, 0],
        legend: { show: false },
        scales: {
          x: { time: false },
          y: options.log ? { distr: 3, range: logRange(options.series) } : { range: linearRange(options) },
        },
        axes: axes(options.log, options.strip),
        series: [{}, ...lines],
        cursor: {
          sync: { key: sync, scales: ["x", null], setSeries: false },
          drag: { x: true, y: false, setScale: true, dist: 6 },
          points: { size: 8 },
          y: false,
        },
        hooks: { setScale: [(u, key) => key === "x" && onZoom(u)], setCursor: [(u) => onCursor(u)] },
        plugins,
      },
      data,
      this.plot,
    );
  }

  #width() {
    return Math.max(240, this.plot.clientWidth || 600);
  }

  resize() {
    this.u?.setSize({ width: this.#width(), height: this.options.height ?? 190 });
  }

  show(columns, index) {
    this.options.series.forEach((series, i) => {
      const value = index === null ? null : columns[series.column][index];
      this.values[i].textContent = value === null || value === undefined ? "" : number(value, 4);
    });
  }

  /** The picture in words, for those who do not see it. */
  describe(xs, columns) {
    const words = this.options.series.map(({ name }, i) => {
      const there = columns[i].filter((value) => value !== null && value !== undefined);
      if (!there.length) return `${name}: no value`;
      const low = there.reduce((a, b) => Math.min(a, b));
      const high = there.reduce((a, b) => Math.max(a, b));
      return `${name}: from ${number(there[0], 3)} to ${number(there.at(-1), 3)}, smallest ${number(low, 3)}, largest ${number(high, 3)}`;
    });
    this.plot.setAttribute("role", "img");
    this.plot.setAttribute("aria-label", xs.length ? `${this.options.title}, ${number(xs[0], 6)} to ${number(xs.at(-1), 6)}. ${words.join(". ")}.` : `${this.options.title}: nothing yet.`);
  }

  destroy() {
    this.u?.destroy();
    this.u = null;
  }
}
