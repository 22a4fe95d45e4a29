// The view of one run.

import { Actions } from "./actions.js";
import { addressOf, keepInAddress } from "./address.js";
import { getJson, runPath } from "./api.js";
import { Charts } from "./charts.js";
import { Detail, merged } from "./detail.js";
import { h, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { ago, integer, plural } from "./format.js";
import { Gauge } from "./gauge.js";
import { Series } from "./series.js";
import { Tiles } from "./tiles.js";
import { Words } from "./words.js";

const LINK = {
  loading: "loading the history",
  live: "live",
  polling: "live, by polling",
  lost: "controller away, trying again",
  ended: "run has ended",
};
export const STATUS_TONES = { created: "cool", active: "good", stale: "warn", finished: "", failed: "bad" };

const MOST_RECORDS = 6000; // then the history is asked for in outline again

export class RunView {
  constructor(project, run, { setLink, onProblem, query }) {
    Object.assign(this, { project, name: run, setLink, onProblem, query });
    this.outline = { records: [], total: 0 };
    this.newer = []; // records that came after the outline
    this.abort = new AbortController();
    this.element = h("div", {}, h("p", { class: "empty muted" }, "Loading the run …"));
    this.charts = null;
    this.sight = [0, 1];
  }

  async start() {
    const path = runPath(this.project, this.name);
    const run = await getJson(path, { signal: this.abort.signal });
    if (this.abort.signal.aborted) return;
    this.series = new Series(run.spec);
    this.actions = new Actions(path, {
      run: () => this.run,
      charts: () => this.charts.charts,
      onRun: (newer) => this.#about(newer),
      signal: this.abort.signal,
    });
    this.#build(run);
    this.detail = new Detail(path, { signal: this.abort.signal, onRecords: (records) => this.#closer(records) });
    this.feed = new Feed(path, {
      signal: this.abort.signal,
      onOutline: (outline) => this.#outlined(outline),
      onRecords: (records) => this.#add(records),
      onState: (state) => this.setLink(state, LINK[state]),
      onProblem: this.onProblem,
      onRun: (newer) => this.#about(newer),
    });
    this.feed.follow();
    this.timer = setInterval(() => this.#age(), 1000);
  }

  #build(run) {
    this.gauge = new Gauge();
    this.tiles = new Tiles();
    this.words = new Words();
    this.title = h("div", { class: "run-title" });
    this.meta = h("div", { class: "meta" });
    this.note = h("p", { class: "note" });
    this.at = h("span", { class: "at", role: "status", "aria-live": "off" }, "");
    this.charts = new Charts(this.series, {
      onInspect: (index) => this.#show(index),
      onView: (from, to, whole) => this.#seen(from, to, whole),
    });
    this.followButton = h("button", { class: "ghost", type: "button", "aria-pressed": "true", title: "Follow the newest decisions (f)", onclick: () => this.toggleFollow() }, "Follow");
    const button = (label, title, act) => h("button", { class: "ghost icon", type: "button", title, "aria-label": title, onclick: act }, label);
    this.element.replaceChildren(
      h("div", { class: "page-head" }, h("div", {}, this.title, this.meta, this.note), h("span", { class: "spacer" }), this.actions.element),
      h("div", { class: "now" }, this.gauge.element, this.tiles.element),
      h(
        "div",
        { class: "toolbar" },
        h("h2", {}, "History"),
        this.at,
        h(
          "div",
          { class: "buttons", role: "group", "aria-label": "What the charts show" },
          this.followButton,
          button("−", "Zoom out (−)", () => this.charts.zoom(2)),
          button("+", "Zoom in (+)", () => this.charts.zoom(0.5)),
          h("button", { class: "ghost", type: "button", title: "Whole run (0)", onclick: () => this.charts.showAll() }, "All"),
        ),
      ),
      this.charts.element,
      this.words.element,
    );
    this.#about(run);
    this.#show(null);
    this.charts.start();
  }

  #about(run) {
    this.run = run;
    this.actions.about(run);
    const spec = run.spec;
    this.title.replaceChildren(
      h("h1", {}, run.about?.title ?? run.run),
      run.about?.title ? h("span", { class: "muted" }, run.run) : "",
      ...(run.about?.tags ?? []).map((tag) => h("a", { class: "tag", href: addressOf([], { text: tag }) }, `#${tag}`)),
      h("span", { class: "pill", data: { tone: STATUS_TONES[run.status] ?? "" } }, run.status),
      run.reason ? h("span", { class: "muted" }, run.reason) : "",
    );
    setText(this.note, run.about?.note ?? "");
    this.age = h("b", {}, ago(run.updated_at));
    const facts = [
      ["project", run.project],
      ["optimizer", spec.optimizer],
      ["policy", spec.policy?.name ?? "default"],
      ...(spec.trust ? [["trust", spec.trust]] : []),
      ...(spec.scale === "path" ? [["rate from", "the path"]] : []),
      ["probe every", plural(spec.probe_interval ?? 100, "step")],
      run.attempt > 1 ? ["attempt", integer(run.attempt)] : null,
      ...Object.entries(spec.labels ?? {}),
    ].filter(Boolean);
    this.meta.replaceChildren(
      ...facts.map(([name, value]) => h("span", {}, `${name} `, h("b", {}, value))),
      h("span", {}, "last change ", this.age),
    );
  }

  #age() {
    setText(this.age, ago(Math.max(this.run.updated_at, this.series.last?.at ?? 0)));
  }

  #outlined(outline) {
    this.outline = outline;
    this.newer = [];
    this.series.replace(outline.records, outline.total);
    this.#drawn();
  }

  /** A part of the run in more records than the outline has of it. */
  #closer(records) {
    const all = merged(this.outline.records, records, this.newer);
    this.series.replace(all, this.outline.total + this.newer.length);
    this.#drawn();
  }

  #drawn() {
    this.charts.refresh();
    this.#show(this.charts.inspected);
    // Where the address says, once there is something to see.
    if (this.query.has("from") && this.series.length) {
      this.charts.lookAt(Number(this.query.get("from")), Number(this.query.get("to")));
      this.query = new URLSearchParams();
    }
  }

  #add(records) {
    let added = 0;
    this.newer.push(...records);
    if (this.series.length > MOST_RECORDS) this.feed.thin();
    for (const record of records) added += this.series.add(record) ? 1 : 0;
    if (!added) return;
    this.charts.refresh();
    if (this.charts.inspected === null) this.#show(null);
  }

  #show(index) {
    const entry = (index === null ? null : this.series.entries[index]) ?? this.series.last;
    this.gauge.show(entry);
    this.tiles.show(entry);
    this.words.show(this.series, index);
    const replaced = this.series.replaced ? ` · ${plural(this.series.replaced, "decision")} of earlier attempts left out` : "";
    const between = this.series.between ? ` · ${integer(this.series.length)} of ${plural(this.series.length + this.series.between, "decision")} drawn, spikes among them` : "";
    setText(this.at, entry ? `${index === null ? "newest decision, " : ""}step ${integer(entry.step)}${replaced}${between}` : "");
  }

  #seen(from, to, whole) {
    this.words.count(this.series, from, to);
    if (this.series.length) keepInAddress([this.project, this.name], whole ? {} : { from: Math.round(from), to: Math.round(to) });
    this.detail?.look(whole || !this.outline.total || this.outline.total === this.outline.records.length ? null : [from, to]);
    this.followButton.setAttribute("aria-pressed", String(this.charts?.following ?? true));
  }

  toggleFollow() {
    this.charts.follow(!this.charts.following);
    this.followButton.setAttribute("aria-pressed", String(this.charts.following));
  }

  /** Whether the key was one of this view's. */
  key(event) {
    if (!this.charts) return false;
    const far = event.shiftKey ? 10 : 1;
    const acts = {
      ArrowLeft: () => this.charts.inspect(-far),
      ArrowRight: () => this.charts.inspect(far),
      "+": () => this.charts.zoom(0.5),
      "=": () => this.charts.zoom(0.5),
      "-": () => this.charts.zoom(2),
      0: () => this.charts.showAll(),
      f: () => this.toggleFollow(),
    };
    if (event.key === "Escape") {
      if (this.charts.inspected === null) location.hash = "#/";
      else this.charts.inspect(null);
      return true;
    }
    acts[event.key]?.();
    return event.key in acts;
  }

  stop() {
    this.abort.abort();
    clearInterval(this.timer);
    this.charts?.destroy();
  }
}
