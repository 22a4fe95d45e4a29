// A long run seen closer: what is in sight is asked for again, in as many records as a chart can show.

import { getJson } from "./api.js";

const PAUSE_MS = 150; // a zoom in progress asks once
const AGAIN_MS = 150;
const order = (a, b) => a.attempt - b.attempt || a.step - b.step;

/** Records of several answers as one list in order, each once. */
export function merged(...lists) {
  const found = new Map();
  for (const record of lists.flat()) found.set(`${record.attempt}:${record.step}`, record);
  return [...found.values()].sort(order);
}

export class Detail {
  /** onRecords(records of the part) is called when they are there. */
  constructor(path, { signal, onRecords }) {
    Object.assign(this, { path, signal, onRecords });
    this.part = null;
  }

  /** The steps in sight; null when the whole run is. */
  look(part) {
    const [first, last] = part ?? [];
    const wanted = part === null ? null : `first=${Math.max(0, Math.floor(first))}&last=${Math.max(0, Math.ceil(last))}`;
    if (wanted === this.part) return;
    this.part = wanted;
    clearTimeout(this.timer);
    if (wanted !== null) this.timer = setTimeout(() => this.#ask(wanted), PAUSE_MS);
  }

  async #ask(wanted) {
    try {
      while (wanted === this.part && !this.signal.aborted) {
        const outline = await getJson(`${this.path}/outline?${wanted}`, { signal: this.signal });
        if (wanted !== this.part) return;
        if (outline.complete) return this.onRecords(outline.records);
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    } catch {
      if (wanted === this.part) this.part = null; // the coarse picture stays; the next zoom asks again
    }
  }
}
