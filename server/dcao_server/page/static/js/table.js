// The table of runs. Rows are kept from one answer to the next, so that focus and selection survive a refresh.

import { addressOf } from "./address.js";
import { h } from "./dom.js";
import { ago, fixed, integer, number } from "./format.js";
import { edgeBar } from "./gauge.js";
import { STATUS_TONES } from "./run.js";

const LABELS_SHOWN = 4;

// Name of the column, what the server sorts it by, class, cell.
const COLUMNS = [
  ["Run", "name", "", nameCell],
  ["Status", "status", "", (run) => h("span", { class: "pill", data: { tone: STATUS_TONES[run.status] ?? "" } }, run.status)],
  ["Edge ratio", "edge", "", edgeCell],
  ["Sharpness ρ", "sharpness", "num wide-only", (run) => number(run.sharpness)],
  ["Learning rate η", "lr", "num wide-only", (run) => number(run.lr)],
  ["Loss", "loss", "num wide-only", (run) => number(run.loss)],
  ["Step", "step", "num wide-only", (run) => integer(run.last_step)],
  ["Optimizer", null, "wide-only apart", (run) => run.optimizer],
  ["Policy", "policy", "wide-only", (run) => run.policy],
  ["Last change", "updated", "num wide-only muted", (run) => ago(run.updated_at)],
];
const UP_FIRST = new Set(["name", "status", "policy"]);

export const keyOf = (run) => `${run.project}/${run.run}`;

function edgeCell(run) {
  if (run.edge_ratio === undefined) return h("span", { class: "muted", title: "No spectrum yet" }, "–");
  return h("span", { class: "edge-cell num" }, edgeBar(run.edge_ratio), fixed(run.edge_ratio));
}

function nameCell(run, { onLabel, onTag, onChoose, chosen }) {
  const labels = Object.entries(run.labels ?? {});
  const hidden = labels.slice(LABELS_SHOWN).map(([name, value]) => `${name}=${value}`);
  return h(
    "div",
    { class: "run-cell" },
    h("input", {
      type: "checkbox", "aria-label": `Compare ${keyOf(run)}`, checked: chosen.has(keyOf(run)),
      onchange: (event) => onChoose(run, event.target.checked),
    }),
    h(
      "div",
      {},
      h("a", { class: "run-name", href: addressOf([run.project, run.run]), title: run.run }, run.title ?? run.run),
      h(
        "div",
        { class: "run-sub" },
        h("a", { href: addressOf([], { project: run.project }), title: "Only this project" }, run.project),
        (run.tags ?? []).map((tag) => h("button", { type: "button", class: "tag", title: "Search for this tag", onclick: () => onTag(tag) }, `#${tag}`)),
        labels.slice(0, LABELS_SHOWN).map(([name, value]) =>
          h("button", { type: "button", class: "tag", title: "Only runs with this label", onclick: () => onLabel(`${name}=${value}`) }, `${name}=${value}`),
        ),
        hidden.length ? h("span", { title: hidden.join("\n") }, ` +${hidden.length}`) : null,
      ),
    ),
  );
}

export class RunTable {
  /** onSort(order, ascending); onLabel("name=value"); onTag(tag); onChoose(run, chosen). */
  constructor({ onSort, onLabel, onTag, onChoose, chosen }) {
    Object.assign(this, { onSort, handlers: { onLabel, onTag, onChoose, chosen } });
    this.rows = new Map();
    this.heads = COLUMNS.map(([name, order, kind]) => this.#head(name, order, kind));
    this.body = h("tbody");
    this.element = h("table", {}, h("thead", {}, h("tr", {}, this.heads)), this.body);
  }

  #head(name, order, kind) {
    const turn = (event) => {
      const before = event.currentTarget.closest("th").getAttribute("aria-sort");
      this.onSort(order, before === "none" ? UP_FIRST.has(order) : before === "descending");
    };
    const content = order ? h("button", { type: "button", class: "sort", onclick: turn }, name) : name;
    return h("th", { class: kind, scope: "col", "aria-sort": order ? "none" : null, data: { order: order ?? "" } }, content);
  }

  show(runs, { sort, ascending }) {
    for (const head of this.heads) {
      if (head.dataset.order) head.setAttribute("aria-sort", head.dataset.order === sort ? (ascending ? "ascending" : "descending") : "none");
    }
    const focused = document.activeElement;
    const kept = new Map();
    for (const run of runs) kept.set(keyOf(run), this.#row(run));
    for (const [key, row] of this.rows) if (!kept.has(key)) row.element.remove();
    this.rows = kept;
    let place = this.body.firstChild;
    for (const { element } of kept.values()) {
      if (element === place) place = place.nextSibling;
      else this.body.insertBefore(element, place);
    }
    // A row that was moved has lost the focus that was in it.
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({ preventScroll: true });
  }

  #row(run) {
    const named = JSON.stringify([run.title, run.tags, run.labels]);
    const known = this.rows.get(keyOf(run));
    const row = known?.named === named ? known : this.#newRow(run, named);
    if (known && known !== row) known.element.replaceWith(row.element);
    // The name's cell never changes: it holds what may have the focus.
    const cells = [...row.element.cells].slice(1);
    COLUMNS.slice(1).forEach(([, , , content], i) => {
      const made = content(run, this.handlers);
      const node = typeof made === "string" ? document.createTextNode(made) : made;
      if (!node.isEqualNode(cells[i].firstChild)) cells[i].replaceChildren(node);
    });
    return row;
  }

  #newRow(run, named) {
    const href = addressOf([run.project, run.run]);
    const open = (event) => {
      if (!event.target.closest("a, button, input")) location.hash = href;
    };
    const cells = COLUMNS.map(([, , kind, content], i) => h("td", { class: kind }, i ? null : content(run, this.handlers)));
    return { named, element: h("tr", { onclick: open }, cells) };
  }

  get links() {
    return [...this.body.querySelectorAll("a.run-name")];
  }
}
