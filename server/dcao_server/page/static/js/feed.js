// A run's records as they come: the history in outline, then live events, and polling where events do not get through.

import { getJson, Problem, request } from "./api.js";
import { lease, release, RENEW_MS } from "./lease.js";
import { readEvents } from "./sse.js";

const PAGE = 1000;
const AGAIN_MS = 150; // while the controller reads a long history
const POLL_MS = 2000;
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000];
const STREAM_FAILURES_BEFORE_POLLING = 2;
const SHORT_MS = 1000; // a stream that ends sooner did not get through
const SILENCE_MS = 45000; // the controller sends a comment at least every 15 s

const wait = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

const seen = (signal) =>
  new Promise((resolve) => {
    document.addEventListener("visibilitychange", () => resolve(), { once: true, signal });
    signal.addEventListener("abort", resolve, { once: true });
  });

/**
 * Follows one run until `signal` aborts.
 *
 * onOutline({records, total, complete}) is called first, with what a chart needs of the history, again while it is still
 * being read; onRecords(records, {loading}) with new records in order; onState(state) with
 * loading | live | polling | lost | ended; onProblem(problem) with what the controller said when it refused.
 */
export class Feed {
  constructor(path, { signal, onOutline, onRecords, onState, onProblem, onRun }) {
    Object.assign(this, { path, signal, onOutline, onRecords, onState, onProblem, onRun });
    this.outlined = false;
    this.cursor = null;
    this.failures = 0; // attempts in a row that brought nothing
    this.streamFailures = 0;
  }

  async follow() {
    this.onState("loading");
    this.signal.addEventListener("abort", release, { once: true });
    while (!this.signal.aborted) {
      try {
        if (!this.outlined) await this.#outline();
        await this.#catchUp();
        const run = await getJson(this.path, { signal: this.signal });
        this.onRun(run);
        this.failures = 0;
        if (run.status === "finished" || run.status === "failed") {
          this.onState("ended");
          await wait(POLL_MS * 5, this.signal);
        } else if (document.hidden) {
          release();
          await seen(this.signal); // nobody looks; what came meanwhile is asked for then
        } else if (this.streamFailures >= STREAM_FAILURES_BEFORE_POLLING || !lease()) {
          this.onState("polling");
          await wait(POLL_MS, this.signal);
        } else {
          await this.#stream();
        }
      } catch (error) {
        if (this.signal.aborted) return;
        await this.#failed(error);
      }
    }
  }

  async #failed(error) {
    if (error instanceof Problem && [401, 403, 404].includes(error.status)) this.onProblem(error);
    this.onState("lost");
    const step = Math.min(this.failures, BACKOFF_MS.length - 1);
    this.failures += 1;
    await wait(BACKOFF_MS[step] * (0.75 + Math.random() / 2), this.signal);
  }

  async #outline() {
    for (;;) {
      const outline = await getJson(`${this.path}/outline`, { signal: this.signal });
      this.onOutline(outline);
      if (outline.complete) {
        this.cursor = outline.cursor ?? null;
        this.outlined = true;
        return;
      }
      await wait(AGAIN_MS, this.signal);
    }
  }

  /** The history anew, when more has come than a chart needs. */
  thin() {
    this.outlined = false;
    this.silence?.abort();
  }

  /** Everything after the cursor, page by page. */
  async #catchUp() {
    for (;;) {
      const after = this.cursor ? `&after=${encodeURIComponent(this.cursor)}` : "";
      const page = await getJson(`${this.path}/decisions?limit=${PAGE}${after}`, { signal: this.signal });
      const more = Boolean(page.next_cursor);
      if (page.records.length) this.onRecords(page.records, { loading: more });
      if (page.records.length) this.cursor = cursorOf(page.records.at(-1));
      if (more) this.cursor = page.next_cursor;
      else return;
    }
  }

  async #stream() {
    const silence = (this.silence = new AbortController());
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
    };
    const began = performance.now();
    const headers = { Accept: "text/event-stream" };
    const renewal = setInterval(() => {
      if (lease()) return;
      this.given = true;
      silence.abort();
    }, RENEW_MS);
    this.given = false;
    if (this.cursor) headers["Last-Event-ID"] = this.cursor;
    try {
      const response = await request(`${this.path}/events`, {
        headers,
        signal: AbortSignal.any([this.signal, silence.signal]),
        timeout: 0,
      });
      this.onState("live");
      await readEvents(response.body, (event) => this.#event(event), alive);
      // Ended by the controller (its restart, the run's end), or at once by something in between.
      if (performance.now() - began < SHORT_MS) {
        this.streamFailures += 1;
        await wait(SHORT_MS, this.signal);
      } else {
        this.streamFailures = 0;
      }
    } catch (error) {
      if (!this.outlined || this.given) return; // the history is wanted anew, or another tab streams
      if (!this.signal.aborted) this.streamFailures += this.failures > 0 ? 0 : 1;
      throw error;
    } finally {
      clearTimeout(timer);
      clearInterval(renewal);
    }
  }

  #event({ id, event, data }) {
    this.streamFailures = 0;
    if (event !== "message" && event !== "decision") return;
    this.onRecords([JSON.parse(data)], { loading: false });
    if (id) this.cursor = id;
  }
}

/** The cursor of a record is its place in the history: attempt and step. */
const cursorOf = (record) => `${record.attempt}:${record.step}`;
