// Asks the controller within a deadline, judges what comes, and decides by itself when nothing comes that counts.

import { believed, near, REACH } from "./judge.js";
import { decide, knows } from "./law.js";
import { complete, type Decision, type FullSpec, type Observation, type Run, type Spec } from "./messages.js";
import { readToken, START, writeToken } from "./state.js";
import { Transport, type Failure } from "./transport.js";

/** `deadline`: ms that a decision may take; `pause`: ms until a controller that failed is asked again, at first. */
export type Options = {
  run: string; url?: string; project?: string; apiKey?: string; deadline?: number; pause?: number;
};

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const MOST_WAITING = 1000; // entries of one backfill
const RING = 256; // decisions kept after they were delivered: a replica of the store may lack the last of them
const MOST_DECISIONS = 2 ** 40; // of a run; the controller takes no version above it
type Entry = { observation: Observation; decision: Decision };
const TIMEOUT = 5000, LONGEST_PAUSE = 60_000, NOT_OURS = 300_000; // ms
const now = () => performance.now();

/** One run's decisions, with the controller or without it. `decide` never throws, nor outlasts its deadline. */
export class Client {
  waiting: Entry[] = []; // applied, and not yet in the history
  lost = 0; // applied, and never to be in the history
  last: Decision | null = null;
  private readonly spec: FullSpec;
  private readonly transport: Transport | null;
  private readonly run: string;
  private readonly deadline: number;
  private readonly firstPause: number;
  private readonly said = new Set<string>();
  private state = START;
  private own = START; // what the law alone has come to, whatever was answered
  private token: string | null = null; // `state`, as it travels
  private version = 0;
  private origin = 0; // the version that this attempt began at
  private ring: Entry[] = []; // in the history, as the controller says
  private beyond = 0; // decisions that the store lacks and was given again in vain
  private attempt = 1;
  private segment: string | null = null; // the specification in a token; known once the run is declared
  private quietUntil = 0;
  private pause: number;
  private delivery: Promise<void> | null = null;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(spec: Spec, { run, url, project = "default", apiKey, deadline = 250, pause = 500 }: Options) {
    this.spec = complete(spec);
    if (!knows(this.spec.policy.name)) throw new Error(`expected a built-in policy, got ${this.spec.policy.name}`);
    for (const name of [run, project])
      if (!NAME.test(name)) throw new Error(`expected a name of up to 63 letters, digits, ".", "_", "-", got ${name}`);
    this.transport = url ? new Transport(url, apiKey) : null;
    this.run = `/v1/projects/${project}/runs/${run}`;
    this.deadline = deadline;
    this.firstPause = this.pause = pause;
  }

  /** What to use from this step on: the controller's decision if it comes in time, else the same one made here. */
  decide(seen: Observation): Promise<Decision> {
    const decision = this.turn.then(() => this.decideNext(finite(seen)));
    this.turn = decision.catch(() => undefined);
    return decision;
  }

  private async decideNext(seen: Observation): Promise<Decision> {
    if (this.last?.step === seen.step) return { ...this.last, replayed: true }; // the first decision of a step stands
    const end = now() + this.deadline, online = await this.upToDate(end);
    const echoed = this.token === null ? {} : { state: this.token, version: this.version };
    const asked: Observation = { ...seen, attempt: this.attempt, ...echoed };
    let [decision, state] = decide(this.spec, asked, this.state, this.version);
    const [law, own] = decide(this.spec, asked, this.own, 0);
    this.own = own;
    try {
      if (online) {
        const answer = believed(this.spec, asked, await this.send("POST", "/decisions", asked, end - now()), law);
        const read = answer.state === undefined ? state : readToken(answer.state, this.spec);
        if (answer.version > this.version + 1) throw new Error("expected a version that counts the decisions made");
        if (read === null || !near(this.spec, law, decide(this.spec, asked, read, 0)[0], REACH ** 2))
          throw new Error("expected a state of this run, near the law's");
        [decision, state, this.pause] = [answer, read, this.firstPause];
      }
    } catch (error) {
      this.failed(error as Failure);
    }
    [this.last, this.state, this.version] = [decision, state, decision.version];
    this.token = decision.state ?? (this.segment === null ? null : writeToken(this.segment, state));
    if (decision.persisted) this.acknowledge([entryOf(asked, decision)]);
    else if (this.transport !== null) this.keep(entryOf(asked, decision));
    return decision;
  }

  /** The run ended, well or otherwise: delivers what waits. Whether the controller knows it all; never throws. */
  async end(how: "finish" | "fail" = "finish", reason?: string, timeout = 2000): Promise<boolean> {
    await this.turn;
    if (this.transport === null) return true;
    const end = now() + timeout;
    this.quietUntil = 0;
    try {
      if (!(await this.upToDate(end))) return false;
      await this.send("POST", `:${how}`, reason === undefined ? {} : { reason: reason.slice(0, 128) }, end - now());
      return this.lost === 0;
    } catch (error) {
      this.failed(error as Failure);
      return false;
    }
  }

  /** Whether the controller may be asked: it knows the run, and everything that was decided without it. */
  private async upToDate(end: number): Promise<boolean> {
    if (this.transport === null || now() < this.quietUntil) return false;
    if (this.segment === null || this.waiting.length > 0) {
      this.delivery ??= this.deliver().catch((error) => this.failed(error)).finally(() => (this.delivery = null));
      let timer: ReturnType<typeof setTimeout>;
      await Promise.race([this.delivery, new Promise((late) => (timer = setTimeout(late, end - now())))]);
      clearTimeout(timer!);
    }
    return this.segment !== null && this.waiting.length === 0 && now() < end;
  }

  private async deliver(): Promise<void> {
    if (this.segment === null) await this.declare();
    if (this.waiting.length === 0) return;
    await this.handOver();
    // What the store lost before would never show: the backlog has set its version right.
    if (await this.misses()) await this.handOver();
  }

  private async handOver(): Promise<void> {
    while (this.waiting.length > 0) {
      const entries = this.waiting.slice(0, MOST_WAITING);
      try {
        type Result = { stored: number; replayed: number; fenced: number };
        const result = (await this.send("POST", "/decisions:backfill", { entries }, TIMEOUT)) as Result;
        if (result.fenced) throw Object.assign(new Error("a newer attempt owns the run"), { status: 409 });
        if (result.stored + result.replayed !== entries.length) throw new Error("expected every entry to be counted");
        this.acknowledge(entries);
      } catch (error) {
        if (![413, 422].includes((error as Failure).status ?? 0)) throw error;
        this.lost += entries.length; // they will never be taken
        this.failed(error as Failure);
      }
      this.waiting.splice(0, entries.length);
    }
  }

  /** Whether the store lacks what it acknowledged, which then waits again; what it lost too long ago is asked once. */
  private async misses(): Promise<boolean> {
    const run = (await this.send("PUT", "", this.spec, TIMEOUT)) as Run;
    if (run.attempt !== this.attempt) throw Object.assign(new Error("another attempt owns the run"), { status: 409 });
    const lacking = run.version - this.origin - run.decisions, newest = this.ring.at(-1)?.decision.step ?? -1;
    const more = lacking > this.beyond || newest > (run.last_step ?? -1);
    this.beyond = Math.max(lacking, 0) || 0;
    if (more) [this.waiting, this.ring] = [[...this.ring, ...this.waiting], []];
    return more;
  }

  /** Creates the run. One that has a history is gone on with, under a new attempt that fences off the one before. */
  private async declare(): Promise<void> {
    const run = (await this.send("PUT", "", this.spec, TIMEOUT)) as Run;
    const goesOn = run.decisions > 0 && this.token === null;
    const from = goesOn ? ((await this.send("POST", "/attempts", {}, TIMEOUT)) as Run) : run;
    const sample = { spec: this.spec, observation: { step: 0, status: "unavailable" } };
    const token = ((await this.transport!.send("POST", "/v1/decide", sample, TIMEOUT)) as Decision).state;
    if (readToken(token, this.spec) === null || !(from.attempt >= 1 && from.attempt < 1e6))
      throw new Error("expected a run as it was declared");
    this.attempt = from.attempt;
    this.segment = token!.split(".")[1]!;
    for (const { observation, decision } of [...this.ring, ...this.waiting])
      observation.attempt = decision.attempt = this.attempt;
    if (goesOn && this.last === null)
      this.warn(
        `the run was there already (attempt ${run.attempt}, ${run.status}): this goes on from its newest state as ` +
          `attempt ${from.attempt}; give a new training a new name`,
      );
    const state = goesOn && this.last === null ? readToken(from.state, this.spec) : null;
    if (state !== null && from.version >= 0 && from.version <= MOST_DECISIONS)
      [this.state, this.own, this.version, this.origin] = [state, state, from.version, from.version];
    this.token = writeToken(this.segment, this.state);
  }

  private acknowledge(entries: Entry[]): void {
    this.ring = [...this.ring, ...entries].slice(-RING);
  }

  private keep(entry: Entry): void {
    if (this.waiting.length < MOST_WAITING) this.waiting.push(entry);
    else if (this.lost++ === 0) this.warn(`${MOST_WAITING} decisions wait; the history will lack those that follow`);
  }

  private failed({ message, status, retryAfter }: Failure): void {
    if (status === 404) this.segment = null; // its store has lost the run: declare it anew
    this.quietUntil = now() + (status === 409 ? NOT_OURS : Math.max(this.pause, retryAfter ?? 0));
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    this.warn(`deciding here: ${message}`);
  }

  private warn(text: string): void {
    if (!this.said.has(text) && this.said.size < 20) console.warn(`DCAO: ${text.slice(0, 200)}`);
    this.said.add(text);
  }

  private send(method: string, path: string, body: unknown, timeout: number): Promise<unknown> {
    return this.transport!.send(method, this.run + path, body, timeout);
  }
}

const entryOf = (observation: Observation, { state: _, causes: _why, ...decision }: Decision): Entry => ({ observation, decision });

/** A loss or a curvature that is no number crosses no wire: the run has diverged. A base that is none is not used. */
function finite({ base, ...seen }: Observation): Observation {
  const { rho, gamma, loss, rho_bound, gamma_bound, batch_sharpness, ...rest } = seen;
  const said = [rho, gamma, loss, rho_bound, gamma_bound, batch_sharpness];
  const kept = base && Object.values(base).every(Number.isFinite) ? { base } : {};
  if (said.every((x) => x == null || Number.isFinite(x))) return { ...seen, ...kept };
  return { ...rest, ...kept, status: "diverged" };
}
