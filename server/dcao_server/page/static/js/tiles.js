// The values in force, one card each.

import { h, setText } from "./dom.js";
import { number, percent } from "./format.js";

const factor = (value, base) => (base ? `×${number(value, 3)} of ${number(base, 3)}` : "base is 0");

const TILES = [
  {
    symbol: "ρ", name: "sharpness",
    value: (e) => number(e.sharpness, 4),
    note: (e) => (e.limit ? `edge at ${number(e.limit, 3)}` : e.sharpness !== null && e.sharpness <= 0 ? "negative curvature" : ""),
  },
  {
    symbol: "γ", name: "spectral gap",
    value: (e) => number(e.gamma, 4),
    note: (e) => (e.lambdaMin === null ? "" : `λ min ${number(e.lambdaMin, 3)}`),
  },
  { symbol: "", name: "loss", value: (e) => number(e.loss, 4), note: (e) => (e.gradNorm === null ? "" : `gradient ${number(e.gradNorm, 3)}`) },
  {
    symbol: "", name: "probe overhead",
    value: (e) => (e.probe.overhead === undefined ? number(e.probe.seconds ?? null, 3) + (e.probe.seconds === undefined ? "" : " s") : percent(e.probe.overhead)),
    note: (e) => [
      e.probe.matvecs === undefined ? null : `${e.probe.matvecs} products`,
      e.probe.seconds === undefined || e.probe.overhead === undefined ? null : `${number(e.probe.seconds, 2)} s`,
    ].filter(Boolean).join(" · "),
  },
  { symbol: "η", name: "learning rate", value: (e) => number(e.lr, 4), note: (e) => factor(e.multipliers.lr, e.baseLr) },
  { symbol: "β", name: "momentum", value: (e) => number(e.momentum, 4), note: (e) => factor(e.multipliers.momentum, e.baseMomentum) },
  { symbol: "λ", name: "weight decay", value: (e) => number(e.decay, 4), note: (e) => factor(e.multipliers.weight_decay, e.baseDecay) },
  {
    symbol: "", name: "advice",
    value: (e) => e.action,
    note: (e) => (e.backfilled ? "decided offline" : e.status === "ok" ? "observation used" : `observation: ${e.status}`),
  },
];

export class Tiles {
  constructor() {
    this.parts = TILES.map((tile) => ({ tile, value: h("div", { class: "tile-value" }, "–"), note: h("div", { class: "tile-note" }, "\u00a0") }));
    this.element = h(
      "div",
      { class: "tiles" },
      this.parts.map(({ tile, value, note }) =>
        h(
          "section",
          { class: "card tile", "aria-label": tile.name },
          h("div", { class: "label" }, tile.symbol ? h("span", { class: "symbol" }, tile.symbol) : null, tile.name),
          value,
          note,
        ),
      ),
    );
  }

  show(entry) {
    for (const { tile, value, note } of this.parts) {
      setText(value, entry ? tile.value(entry) : "–");
      setText(note, (entry ? tile.note(entry) : "") || "\u00a0");
    }
  }
}
