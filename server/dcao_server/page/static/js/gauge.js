// How far from the edge of stability: a bar with the zones that the controller distinguishes.

import { h, s } from "./dom.js";
import { fixed, number } from "./format.js";
import { regimeWords } from "./why.js";

const WIDTH = 400;
const TOP = 1.6; // the bar's right end; the needle stays there beyond it
const ZONES = [
  [0, 0.1, "grey", 0.35],
  [0.1, 0.8, "green", 0.4],
  [0.8, 1.2, "orange", 0.55],
  [1.2, TOP, "vermillion", 0.6],
];
const TONES = { stable: "good", flat: "", edge: "warn", unstable: "bad", diverged: "bad", calibrating: "cool", held: "", pending: "" };

const x = (edge) => (Math.min(Math.max(edge, 0), TOP) / TOP) * WIDTH;

export const toneOf = (regime) => TONES[regime] ?? "";

export function regimePill(regime) {
  return h("span", { class: "pill", title: regimeWords(regime), data: { tone: toneOf(regime) } }, regime);
}

function words(edge, regime) {
  if (regime === "diverged") return "The run diverged; the learning rate was halved.";
  if (edge === null || edge === undefined) return "No spectrum at this step.";
  if (edge <= 0) return "Negative curvature: no edge in this direction.";
  if (edge < 0.8) return `${number(1 / edge, 2)}× below the edge of stability.`;
  if (edge <= 1.2) return "At the edge of stability.";
  return `${number(edge, 2)}× the largest stable value.`;
}

export class Gauge {
  constructor() {
    this.value = h("span", { class: "gauge-value" }, "–");
    this.pill = h("span", { class: "pill" }, "waiting");
    this.words = h("p", { class: "gauge-words" }, "");
    this.needle = s("path", { d: "M-6 3 L6 3 L0 12 Z", fill: "var(--ink)", transform: "translate(-20 0)" });
    this.element = h(
      "section",
      { class: "card gauge-card", "aria-label": "Edge of stability" },
      h("div", { class: "label" }, h("span", { class: "symbol" }, "e"), "edge ratio ", h("i", {}, "1 is the edge of stability")),
      h("div", { class: "gauge-row" }, this.value, this.pill),
      this.words,
      s(
        "svg",
        { class: "gauge", viewBox: `0 0 ${WIDTH} 46`, "aria-hidden": "true", preserveAspectRatio: "none" },
        ZONES.map(([from, to, colour, opacity], i) =>
          s("rect", { x: x(from) + (i ? 1 : 0), y: 14, width: x(to) - x(from) - 1, height: 12, rx: 2, fill: `var(--${colour})`, "fill-opacity": opacity }),
        ),
        s("line", { x1: x(1), x2: x(1), y1: 10, y2: 30, stroke: "var(--vermillion)", "stroke-width": 2, "stroke-dasharray": "3 2" }),
        [0, 0.8, 1, 1.2].map((mark) =>
          s("text", { x: x(mark), y: 43, "text-anchor": mark === 0 ? "start" : "middle" }, String(mark)),
        ),
        this.needle,
      ),
    );
  }

  show(entry) {
    const edge = entry?.edge ?? null;
    this.value.textContent = edge === null || Math.abs(edge) >= 100 ? number(edge, 3) : fixed(edge);
    this.words.textContent = entry ? words(edge, entry.regime) : "No decision yet.";
    this.pill.textContent = entry?.regime ?? "waiting";
    this.pill.dataset.tone = toneOf(entry?.regime);
    this.pill.title = regimeWords(entry?.regime);
    this.needle.setAttribute("transform", `translate(${edge === null ? -20 : x(edge)} 0)`);
  }
}

/** The same as a small bar for a table row. */
export function edgeBar(edge) {
  const at = (Math.min(Math.max(edge ?? 0, 0), TOP) / TOP) * 88;
  const colour = edge > 1.2 ? "vermillion" : edge >= 0.8 ? "orange" : edge < 0.1 ? "grey" : "green";
  return s(
    "svg",
    { class: "edge-bar", viewBox: "0 0 88 8", "aria-hidden": "true" },
    s("rect", { width: 88, height: 8, rx: 4, fill: "var(--sunken)" }),
    s("rect", { width: Math.max(3, at), height: 8, rx: 4, fill: `var(--${colour})` }),
    s("line", { x1: 55, x2: 55, y1: 0, y2: 8, stroke: "var(--ink)", "stroke-width": 1.5 }),
  );
}
