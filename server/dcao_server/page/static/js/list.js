// The view of all runs: live ones with where they stand, and every run of each project.

import { getJson, getText, Problem, projectsPath, runsPath } from "./api.js";
import { h } from "./dom.js";
import { liveRuns } from "./exposition.js";
import { ago, fixed, integer, number } from "./format.js";
import { edgeBar } from "./gauge.js";
import { STATUS_TONES } from "./run.js";

const REFRESH_MS = 4000;
const STATUSES = ["all", "live", "ended"];
const LIVE = new Set(["created", "active", "stale"]);

export class ListView {
  constructor({ setLink, onProblem }) {
    Object.assign(this, { setLink, onProblem });
    this.abort = new AbortController();
    this.rows = [];
    this.status = "all";
    this.selected = -1;
    this.cursors = new Map(); // project → pages asked for
    this.projectPages = 1;
    this.filter = h("input", { type: "search", placeholder: "Filter runs  /", "aria-label": "Filter the runs", oninput: () => this.#render() });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Status" });
    this.body = h("div", { class: "card table-card" }, h("p", { class: "empty muted" }, "Loading the runs …"));
    this.more = h("div", { class: "page-head" });
    this.element = h(
      "div",
      {},
      h("div", { class: "page-head" }, h("h1", {}, "Runs"), this.chips, h("span", { class: "spacer" }), this.filter),
      this.body,
      this.more,
    );
  }

  async start() {
    this.#chips();
    await this.refresh();
    this.timer = setInterval(() => document.hidden || this.refresh(), REFRESH_MS);
  }

  async refresh() {
    const options = { signal: this.abort.signal };
    try {
      const [live, projects] = await Promise.all([this.#live(options), this.#projects(options)]);
      const pages = await Promise.all(projects.map((project) => this.#project(project, options)));
      this.rows = pages.flat().map((run) => ({ ...run, live: live.get(`${run.project}/${run.run}`) ?? null }));
      this.rows.sort((a, b) => LIVE.has(b.status) - LIVE.has(a.status) || b.updated_at - a.updated_at);
      this.setLink("live", "live");
      this.#render();
    } catch (error) {
      if (this.abort.signal.aborted) return;
      if (error instanceof Problem && [401, 403].includes(error.status)) this.onProblem(error);
      this.setLink("lost", "controller away, trying again");
    }
  }

  /** The metrics may be closed to this key; the list then goes without them. */
  async #live(options) {
    try {
      return liveRuns(await getText("/metrics/runs", options));
    } catch (error) {
      if (error instanceof Problem) return new Map();
      throw error;
    }
  }

  async #projects(options) {
    const names = [];
    let cursor = null;
    for (let page = 0; page < this.projectPages; page += 1) {
      const answer = await getJson(projectsPath(cursor), options);
      names.push(...answer.projects);
      cursor = answer.next_cursor ?? null;
      if (cursor === null) break;
    }
    this.moreProjects = cursor !== null;
    return names;
  }

  async #project(project, options) {
    const runs = [];
    let cursor = null;
    for (let page = 0; page < (this.cursors.get(project) ?? 1); page += 1) {
      const answer = await getJson(runsPath(project, cursor), options);
      runs.push(...answer.runs);
      cursor = answer.next_cursor ?? null;
      if (cursor === null) break;
    }
    this.unfinished = { ...this.unfinished, [project]: cursor !== null };
    return runs;
  }

  #chips() {
    this.chips.replaceChildren(
      ...STATUSES.map((status) =>
        h("button", { class: "ghost", type: "button", "aria-pressed": String(status === this.status), onclick: () => {
          this.status = status;
          this.#chips();
          this.#render();
        } }, status),
      ),
    );
  }

  #shown() {
    const wanted = this.filter.value.trim().toLowerCase();
    return this.rows.filter((run) => {
      if (this.status === "live" && !LIVE.has(run.status)) return false;
      if (this.status === "ended" && LIVE.has(run.status)) return false;
      const labels = Object.entries(run.spec.labels ?? {}).flat();
      const text = [run.run, run.project, run.status, run.spec.optimizer, run.spec.policy?.name, ...labels].join(" ");
      return text.toLowerCase().includes(wanted);
    });
  }

  #render() {
    const runs = this.#shown();
    if (!this.rows.length) this.body.replaceChildren(nothingYet());
    else if (!runs.length) this.body.replaceChildren(h("p", { class: "empty" }, "No run fits the filter."));
    else this.body.replaceChildren(table(runs));
    this.links = [...this.body.querySelectorAll("a.run-name")];
    if (this.selected >= 0) this.#select(this.selected, false);
    const unfinished = Object.keys(this.unfinished ?? {}).filter((project) => this.unfinished[project]);
    this.more.replaceChildren(
      ...unfinished.map((project) =>
        h("button", { class: "ghost", type: "button", onclick: () => {
          this.cursors.set(project, (this.cursors.get(project) ?? 1) + 1);
          this.refresh();
        } }, `Older runs of ${project}`),
      ),
      ...(this.moreProjects ? [h("button", { class: "ghost", type: "button", onclick: () => {
        this.projectPages += 1;
        this.refresh();
      } }, "More projects")] : []),
    );
  }

  #select(index, focus = true) {
    this.selected = Math.min(Math.max(index, 0), this.links.length - 1);
    if (focus) this.links[this.selected]?.focus();
  }

  key(event) {
    if (event.key === "/") this.filter.focus();
    else if (event.key === "j" || event.key === "ArrowDown") this.#select(this.selected + 1);
    else if (event.key === "k" || event.key === "ArrowUp") this.#select(this.selected - 1);
    else if (event.key === "Escape") {
      this.filter.value = "";
      this.filter.blur();
      this.#render();
    } else return false;
    return true;
  }

  stop() {
    this.abort.abort();
    clearInterval(this.timer);
  }
}

const COLUMNS = [
  ["Run", ""], ["Status", ""], ["Edge ratio", ""], ["Sharpness ρ", "num wide-only"], ["Learning rate η", "num wide-only"],
  ["Loss", "num"], ["Step", "num"], ["Optimizer", "wide-only apart"], ["Policy", "wide-only"], ["Last change", "num"],
];

function table(runs) {
  return h(
    "table",
    {},
    h("thead", {}, h("tr", {}, COLUMNS.map(([name, kind]) => h("th", { class: kind, scope: "col" }, name)))),
    h("tbody", {}, runs.map(row)),
  );
}

function row(run) {
  const live = run.live ?? {};
  const href = `#/${encodeURIComponent(run.project)}/${encodeURIComponent(run.run)}`;
  const open = (event) => {
    if (!event.target.closest("a")) location.hash = href;
  };
  return h(
    "tr",
    { onclick: open },
    h("td", {}, h("a", { class: "run-name", href }, run.run), h("div", { class: "run-sub" }, run.project)),
    h("td", {}, h("span", { class: "pill", data: { tone: STATUS_TONES[run.status] ?? "" } }, run.status)),
    h("td", {}, live.edge_ratio === undefined ? h("span", { class: "muted" }, "–") : h("span", { class: "edge-cell num" }, edgeBar(live.edge_ratio), fixed(live.edge_ratio))),
    h("td", { class: "num wide-only" }, number(live.sharpness)),
    h("td", { class: "num wide-only" }, number(live.learning_rate)),
    h("td", { class: "num" }, number(live.loss)),
    h("td", { class: "num" }, integer(run.last_step)),
    h("td", { class: "wide-only apart" }, run.spec.optimizer),
    h("td", { class: "wide-only" }, run.spec.policy?.name ?? "default"),
    h("td", { class: "num muted" }, ago(run.updated_at)),
  );
}

const SNIPPET = `export DCAO_URL=${location.origin}

from dcao_client import attach
dcao = attach(model, optimizer, loss, run="my-run")
…
dcao.step(batch)  # before each optimizer step`;

function nothingYet() {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "No runs yet"),
    h("p", {}, "A run appears here when it is created. From a torch loop, that is:"),
    h("pre", {}, SNIPPET),
  );
}
