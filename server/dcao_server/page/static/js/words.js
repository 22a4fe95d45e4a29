// Decisions in words: what the newest ones did and why, and how often each reason occurred in the steps in sight.

import { h, s } from "./dom.js";
import { clock, integer, number, plural } from "./format.js";
import { regimePill } from "./gauge.js";
import { actionWords, why } from "./why.js";

const SHOWN = 12; // groups of equal decisions

const codes = (entry) => `${entry.causes.map(({ code }) => code)} ${entry.reasons}`;
const same = (a, b) =>
  a.regime === b.regime && a.action === b.action && a.attempt === b.attempt && a.backfilled === b.backfilled && codes(a) === codes(b);

/** The newest decisions up to an index, equal neighbours together: [[newest, oldest, count, before], …], newest first. */
export function grouped(entries, upTo) {
  const groups = [];
  for (let i = upTo; i >= 0; i -= 1) {
    const group = groups.at(-1);
    if (group && same(group[1], entries[i])) {
      group[1] = entries[i];
      group[2] += 1;
    } else {
      if (groups.length === SHOWN) break;
      groups.push([entries[i], entries[i], 1, entries[i - 1] ?? null]);
    }
  }
  return groups;
}

function row([newest, oldest, count, before]) {
  const steps = count === 1 ? `step ${integer(newest.step)}` : `${integer(oldest.step)} – ${integer(newest.step)}`;
  const said = why(newest, before).map(([code, sentence]) => h("p", { title: code }, sentence));
  const reasons = said.length ? said : h("p", {}, "Nothing stood in the way: the values are the law's.");
  return h(
    "li",
    {},
    h("div", { class: "when" }, steps, h("span", {}, count === 1 ? clock(newest.at) : plural(count, "decision"))),
    h(
      "div",
      {},
      h(
        "div",
        { class: "pills" },
        regimePill(newest.regime),
        newest.action === "continue" ? null : h("span", { class: "pill", title: actionWords(newest.action), data: { tone: "bad" } }, newest.action),
        newest.backfilled ? h("span", { class: "pill", data: { tone: "cool" } }, "decided offline") : null,
        newest.deviates ? h("span", { class: "pill", data: { tone: "warn" } }, "deviates") : null,
        h("span", { class: "muted num" }, `η ×${number(newest.multipliers.lr, 3)}`),
      ),
      reasons,
    ),
  );
}

export class Words {
  constructor() {
    this.list = h("ol", { class: "decisions", "aria-label": "Newest decisions" });
    this.tally = h("ul", { class: "tally" });
    this.range = h("p", { class: "muted in-sight" }, "");
    this.element = h(
      "div",
      { class: "words" },
      h("section", { class: "card" }, h("h2", {}, "Decisions in words"), this.list),
      h("section", { class: "card" }, h("h2", {}, "Why values moved or stayed"), this.range, this.tally),
    );
  }

  show(series, index) {
    const upTo = index ?? series.length - 1;
    const rows = grouped(series.entries, upTo).map(row);
    this.list.replaceChildren(...(rows.length ? rows : [h("li", {}, "", h("p", {}, "No decision yet."))]));
  }

  count(series, from, to) {
    const first = series.columns.step.findIndex((step) => step >= from);
    const seen = first < 0 ? [] : series.entries.slice(first, series.indexAt(to) + 1);
    const counts = new Map(); // by code: how often, and the newest decision that has it
    seen.forEach((entry, i) => {
      for (const code of new Set([...entry.causes.map((cause) => cause.code), ...entry.reasons]))
        counts.set(code, { count: (counts.get(code)?.count ?? 0) + 1, at: first + i });
    });
    const sorted = [...counts].sort((a, b) => b[1].count - a[1].count).slice(0, 8);
    const words = (code, at) => why(series.entries[at], series.entries[at - 1]).find(([said]) => said === code)?.[1] ?? code;
    this.range.textContent = `${plural(seen.length, "decision")} in sight`;
    this.tally.replaceChildren(...sorted.map(([code, { count, at }]) => bar(code, words(code, at), count, seen.length)));
  }
}

function bar(code, sentence, count, total) {
  const share = (100 * count) / total;
  return h(
    "li",
    {},
    h("div", {}, h("span", {}, sentence), h("span", {}, integer(count))),
    h("code", {}, code),
    h(
      "div",
      { class: "track", "aria-hidden": "true" },
      s("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none" }, s("rect", { width: share, height: 6, fill: "var(--blue)" })),
    ),
  );
}
