// What can be done with a run: its history as CSV, its charts as a picture, comparing, ending, deleting.

import { addressOf } from "./address.js";
import { Problem, request } from "./api.js";
import { byId, h, setText } from "./dom.js";
import { colour } from "./theme.js";

const DOWNLOAD_MS = 600000;
const ENDED = new Set(["finished", "failed"]);

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** All charts on one canvas, with their titles, in the colours of the theme. */
function picture(title, charts) {
  const canvases = charts.filter((chart) => chart.u).map((chart) => [chart.options.title, chart.u.ctx.canvas]);
  const ratio = devicePixelRatio;
  const line = 28 * ratio;
  const sheet = document.createElement("canvas");
  sheet.width = Math.max(1, ...canvases.map(([, canvas]) => canvas.width)) + 2 * line;
  sheet.height = 2 * line + canvases.reduce((sum, [, canvas]) => sum + canvas.height + 1.5 * line, 0);
  const ctx = sheet.getContext("2d");
  ctx.fillStyle = colour("card");
  ctx.fillRect(0, 0, sheet.width, sheet.height);
  ctx.fillStyle = colour("ink");
  const write = (text, size, y) => {
    ctx.font = `600 ${size * ratio}px Inter, sans-serif`;
    ctx.fillText(text, line, y);
  };
  write(title, 16, 1.2 * line);
  let y = 2 * line;
  for (const [name, canvas] of canvases) {
    write(name, 13, y + 0.7 * line);
    ctx.drawImage(canvas, line, y + line);
    y += canvas.height + 1.5 * line;
  }
  return new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
}

/** Asks in the page's dialog; whether the answer was yes. */
function sure(title, words, yes) {
  const dialog = byId("sure-dialog");
  setText(byId("sure-title"), title);
  setText(byId("sure-words"), words);
  setText(byId("sure-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

export class Actions {
  /** run() is the newest of it, charts() those drawn, onRun(run) gets it after it was ended. */
  constructor(path, { run, charts, onRun, signal }) {
    Object.assign(this, { path, run, charts, onRun, signal });
    const button = (text, title, act) => h("button", { class: "ghost", type: "button", title, onclick: () => this.#try(act) }, text);
    this.said = h("span", { class: "muted", role: "status" });
    this.finish = button("Finish", "Says that the run has reached its end", () => this.#finish());
    this.element = h(
      "div",
      { class: "chips actions", role: "group", "aria-label": "This run" },
      this.said,
      button("Compare", "Choose a law to replay it under, or other runs in the list", () => (location.hash = addressOf(["compare"], { run: `${this.run().project}/${this.run().run}` }))),
      button("Edit", "Title, note and tags", () => this.#edit()),
      button("CSV", "The whole history, a line for each decision", () => this.#csv()),
      button("PNG", "The charts as a picture", () => this.#png()),
      this.finish,
      button("Delete", "Deletes the run with its history", () => this.#delete()),
    );
  }

  about(run) {
    this.finish.hidden = ENDED.has(run.status);
  }

  async #try(act) {
    setText(this.said, "");
    try {
      await act();
    } catch (error) {
      if (this.signal.aborted) return;
      const refused = error instanceof Problem && error.status === 403 ? "This key may not do that" : null;
      setText(this.said, refused ?? (error instanceof Problem ? `${error.title}: ${error.message}` : "The controller is away; try again"));
    }
  }

  async #csv() {
    setText(this.said, "Fetching …");
    const response = await request(`${this.path}/decisions?format=csv`, { signal: this.signal, timeout: DOWNLOAD_MS });
    save(await response.blob(), `${this.run().project}.${this.run().run}.csv`);
    setText(this.said, "");
  }

  async #png() {
    const { project, run } = this.run();
    save(await picture(`${project}/${run}`, this.charts()), `${project}.${run}.png`);
  }

  async #edit() {
    const about = this.run().about ?? {};
    const [title, note, tags] = ["about-name", "about-note", "about-tags"].map(byId);
    title.value = about.title ?? "";
    note.value = about.note ?? "";
    tags.value = (about.tags ?? []).join(" ");
    const dialog = byId("about-dialog");
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (dialog.returnValue !== "save") return;
    const body = { tags: [...new Set(tags.value.split(/[\s,]+/).filter(Boolean))] };
    if (title.value.trim()) body.title = title.value.trim();
    if (note.value.trim()) body.note = note.value.trim();
    const response = await request(`${this.path}/about`, { method: "PUT", body, signal: this.signal });
    this.onRun(await response.json());
  }

  async #finish() {
    if (!(await sure("Finish this run?", "No decision is made after it. A worker that is still training keeps the values it has.", "Finish"))) return;
    const response = await request(`${this.path}:finish`, { method: "POST", body: { reason: "finished on the page" }, signal: this.signal });
    this.onRun(await response.json());
  }

  async #delete() {
    const { run } = this.run();
    if (!(await sure(`Delete ${run}?`, "Its history goes with it, for good. This needs a key with the scope admin.", "Delete"))) return;
    await request(this.path, { method: "DELETE", signal: this.signal });
    location.hash = addressOf([], { project: this.run().project });
  }
}
