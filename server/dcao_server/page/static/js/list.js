// The view of all runs: searched, sorted and cut into pages by the controller; its state is in the address.

import { addressOf, keepInAddress } from "./address.js";
import { getJson, Problem } from "./api.js";
import { h, setText } from "./dom.js";
import { integer } from "./format.js";
import { keyOf, RunTable } from "./table.js";

const REFRESH_MS = 4000;
const AGAIN_MS = 700; // while the controller has not read all runs
const TYPING_MS = 200;
const PAGE = 50;
const MOST_COMPARED = 20;
const STATUSES = ["all", "live", "ended"];

export class ListView {
  constructor({ setLink, onProblem, query }) {
    Object.assign(this, { setLink, onProblem });
    this.abort = new AbortController();
    this.state = {
      text: query.get("text") ?? "",
      project: query.get("project") ?? "",
      status: query.get("status") ?? "",
      policy: query.get("policy") ?? "",
      label: query.getAll("label"),
      sort: query.get("sort") ?? "",
      ascending: query.get("ascending") === "true",
      page: Math.max(1, Math.trunc(Number(query.get("page"))) || 1),
    };
    this.chosen = new Map();
    this.selected = -1;
    this.asked = 0;
    this.filter = h("input", { type: "search", placeholder: "Filter: words, label=value  /", "aria-label": "Filter the runs", oninput: () => this.#typed() });
    this.filter.value = this.state.text;
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Status" });
    this.policies = h("select", { "aria-label": "Policy", onchange: () => this.#change({ policy: this.policies.value }) }, h("option", { value: "" }, "every policy"));
    this.conditions = h("div", { class: "chips conditions", role: "group", "aria-label": "Filters in force" });
    this.body = h("div", { class: "card table-card" }, h("p", { class: "empty muted" }, "Loading the runs …"));
    this.pager = h("nav", { class: "page-head pager", "aria-label": "Pages" });
    this.compare = h("button", { class: "solid", type: "button", hidden: true, onclick: () => this.#compare() }, "Compare");
    this.table = new RunTable({
      onSort: (sort, ascending) => this.#change({ sort, ascending }),
      onLabel: (label) => this.#change({ label: [...new Set([...this.state.label, label])] }),
      onTag: (tag) => {
        this.filter.value = tag;
        this.#change({ text: tag });
      },
      onChoose: (run, chosen) => this.#choose(run, chosen),
      chosen: this.chosen,
    });
    this.element = h(
      "div",
      {},
      h("div", { class: "page-head" }, h("h1", {}, "Runs"), this.chips, this.policies, this.compare, h("span", { class: "spacer" }), this.filter),
      this.conditions,
      this.body,
      this.pager,
    );
  }

  async start() {
    this.#controls();
    this.#loadPolicies();
    await this.refresh();
    this.timer = setInterval(() => document.hidden || this.refresh(), REFRESH_MS);
  }

  /** Names for the choice; the list does without them if they cannot be had. */
  async #loadPolicies() {
    try {
      const { policies } = await getJson("/v1/policies", { signal: this.abort.signal });
      this.policies.append(...policies.map(({ name }) => h("option", { value: name }, name)));
      this.policies.value = this.state.policy;
    } catch (error) {
      if (!this.abort.signal.aborted && !(error instanceof Problem)) this.setLink("lost", "controller away, trying again");
    }
  }

  async refresh() {
    const ask = (this.asked += 1);
    try {
      const answer = await getJson(this.#path(), { signal: this.abort.signal });
      if (ask !== this.asked) return; // a newer question is on its way
      this.setLink("live", answer.complete ? "live" : `reading the runs: ${integer(answer.total)} so far`);
      this.#render(answer);
      if (!answer.complete) this.again = setTimeout(() => ask === this.asked && this.refresh(), AGAIN_MS);
    } catch (error) {
      if (this.abort.signal.aborted) return;
      if (error instanceof Problem && error.status < 500 && error.status !== 429) {
        this.stop();
        this.onProblem(error);
      } else {
        this.setLink("lost", "controller away, trying again");
      }
    }
  }

  #path() {
    const { page, label, ...rest } = this.state;
    const values = { ...rest, label, limit: PAGE, offset: (page - 1) * PAGE };
    return `/v1/runs${addressOf([], values).replace(/^#\//, "")}`;
  }

  #typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.#change({ text: this.filter.value.trim() }), TYPING_MS);
  }

  #change(changes) {
    this.state = { ...this.state, page: 1, ...changes };
    const { page } = this.state;
    keepInAddress([], { ...this.state, page: page > 1 ? page : "" });
    this.#controls();
    this.refresh();
  }

  #controls() {
    const current = this.state.status || "all";
    const choices = STATUSES.includes(current) ? STATUSES : [...STATUSES, current];
    this.chips.replaceChildren(
      ...choices.map((status) =>
        h("button", { class: "ghost", type: "button", "aria-pressed": String(status === current), onclick: () => this.#change({ status: status === "all" ? "" : status }) }, status),
      ),
    );
    const conditions = [
      ...(this.state.project ? [[`project ${this.state.project}`, { project: "" }]] : []),
      ...this.state.label.map((label) => [label, { label: this.state.label.filter((other) => other !== label) }]),
    ];
    this.conditions.replaceChildren(
      ...conditions.map(([text, without]) =>
        h("button", { class: "ghost", type: "button", "aria-label": `Remove the filter ${text}`, onclick: () => this.#change(without) }, text, " ×"),
      ),
    );
  }

  #filtered() {
    const { text, project, status, policy, label } = this.state;
    return Boolean(text || project || status || policy || label.length);
  }

  #render({ runs, total, complete }) {
    if (runs.length) {
      this.table.show(runs, { sort: this.state.sort || "updated", ascending: this.state.ascending });
      if (this.body.firstChild !== this.table.element) this.body.replaceChildren(this.table.element);
    } else if (!complete) this.body.replaceChildren(h("p", { class: "empty muted" }, "Reading the runs …"));
    else if (total && this.state.page > 1) this.#change({ page: Math.ceil(total / PAGE) });
    else if (this.#filtered()) this.body.replaceChildren(h("p", { class: "empty" }, "No run fits the filter."));
    else this.body.replaceChildren(nothingYet());
    this.#turn(runs.length, total);
  }

  /** Where in the list this page is; buttons are kept, so that the one in use keeps the focus. */
  #turn(shown, total) {
    if (!this.pager.firstChild) {
      const step = (by) => () => this.#change({ page: this.state.page + by });
      this.before = h("button", { class: "ghost", type: "button", onclick: step(-1) }, "Previous");
      this.after = h("button", { class: "ghost", type: "button", onclick: step(1) }, "Next");
      this.place = h("span", { class: "muted num", role: "status" });
      this.pager.append(this.before, this.place, this.after);
    }
    const first = (this.state.page - 1) * PAGE;
    this.pager.hidden = total === 0;
    setText(this.place, `${integer(first + 1)} – ${integer(first + shown)} of ${integer(total)}`);
    this.before.disabled = this.state.page === 1;
    this.after.disabled = first + shown >= total;
  }

  #choose(run, chosen) {
    if (chosen) this.chosen.set(keyOf(run), run);
    else this.chosen.delete(keyOf(run));
    const count = this.chosen.size;
    this.compare.hidden = count === 0;
    this.compare.disabled = count < 2 || count > MOST_COMPARED;
    setText(this.compare, count < 2 ? "Compare: choose another" : count > MOST_COMPARED ? `Compare: ${MOST_COMPARED} at most` : `Compare ${count}`);
  }

  #compare() {
    location.hash = addressOf(["compare"], { run: [...this.chosen.keys()] });
  }

  #select(index) {
    const { links } = this.table;
    this.selected = Math.min(Math.max(index, 0), links.length - 1);
    links[this.selected]?.focus();
  }

  key(event) {
    if (event.key === "/") this.filter.focus();
    else if (event.key === "j" || event.key === "ArrowDown") this.#select(this.selected + 1);
    else if (event.key === "k" || event.key === "ArrowUp") this.#select(this.selected - 1);
    else if (event.key === "Escape") {
      this.filter.value = "";
      this.filter.blur();
      this.#change({ text: "" });
    } else return false;
    return true;
  }

  stop() {
    this.abort.abort();
    clearInterval(this.timer);
    clearTimeout(this.typing);
    clearTimeout(this.again);
  }
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
