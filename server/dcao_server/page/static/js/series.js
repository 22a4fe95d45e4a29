// A run's history as columns for the charts.
//
// A restart from a checkpoint (a new attempt) goes back some steps. What the charts show is the lineage that lives on:
// steps of an older attempt from where the newer one began are dropped, so that the step axis only grows.

export const COLUMNS = [
  "step", "rho", "gamma", "edge", "lr", "momentum", "decay", "loss",
  "baseLr", "baseMomentum", "baseDecay", "batchSharpness", "limit", "batchEdge", "ceiling",
  "factorLr", "factorMomentum", "factorDecay",
];

export const METRIC = "metric "; // before the name of what the user logged
const MOST_METRICS = 32;

const orNull = (value) => (value === undefined ? null : value);
const positive = (value) => (value > 0 ? value : null);

export class Series {
  constructor(spec) {
    this.spec = spec;
    this.columns = Object.fromEntries(COLUMNS.map((name) => [name, []]));
    this.entries = []; // what is not plotted, one per step
    this.attempts = []; // [attempt, first step]
    this.replaced = 0;
    this.between = 0; // decisions that lie between those that are here
  }

  get length() {
    return this.entries.length;
  }

  get last() {
    return this.entries.at(-1) ?? null;
  }

  /** Whether the record is new; the same (attempt, step) twice is one decision, and an older attempt's is history. */
  add(record) {
    const { attempt, step } = record;
    const last = this.last;
    if (last && attempt < last.attempt) return false;
    if (last && attempt === last.attempt && step <= last.step) return false;
    if (last && attempt > last.attempt) this.#restart(step);
    if (!this.attempts.length || this.attempts.at(-1)[0] !== attempt) this.attempts.push([attempt, step]);
    this.#push(record);
    return true;
  }

  /** Takes other records instead of those that are here: an outline of the run, or one with a part of it seen closer. */
  replace(records, total = records.length) {
    for (const column of Object.values(this.columns)) column.length = 0;
    this.entries.length = 0;
    this.attempts = [];
    this.replaced = 0;
    for (const record of records) this.add(record);
    this.between = Math.max(0, total - records.length);
  }

  #restart(step) {
    while (this.entries.length && this.last.step >= step) {
      this.entries.pop();
      for (const column of Object.values(this.columns)) column.pop();
      this.replaced += 1;
    }
    this.attempts = this.attempts.filter(([, first]) => first < step);
  }

  #push(record) {
    const { observation, decision } = record;
    const base = observation.base ?? this.spec.base;
    const rho = orNull(observation.rho);
    const edge = orNull(decision.edge_ratio);
    // edge ratio = η·ρ / threshold, so ρ / edge ratio is the sharpness at which this η meets the edge.
    const limit = rho > 0 && edge > 0 ? rho / edge : null;
    // Where small-batch training becomes unstable: η·(batch sharpness) = 2(1 − β), for optimizers that sum momentum.
    const sums = ["sgd", "nesterov"].includes(this.spec.optimizer);
    const slope = orNull(observation.batch_sharpness);
    const batchEdge = sums && slope !== null ? (decision.lr * slope) / (2 * (1 - decision.momentum)) : null;
    const row = {
      step: record.step,
      rho: positive(rho),
      gamma: orNull(observation.gamma),
      edge,
      lr: decision.lr,
      momentum: decision.momentum,
      decay: decision.weight_decay,
      loss: orNull(observation.loss),
      baseLr: base.lr,
      baseMomentum: base.momentum ?? 0,
      baseDecay: base.weight_decay ?? 0,
      batchSharpness: positive(orNull(observation.batch_sharpness)),
      limit,
      batchEdge,
      ceiling: positive(orNull(decision.ceiling)),
      factorLr: base.lr > 0 ? decision.lr / base.lr : null, // what is used over what would be: the ceiling counts
      factorMomentum: decision.multipliers.momentum,
      factorDecay: decision.multipliers.weight_decay,
    };
    for (const column of COLUMNS) this.columns[column].push(row[column]);
    this.#logged(observation.metrics ?? {});
    this.entries.push({
      ...row,
      attempt: record.attempt,
      sharpness: rho,
      lambdaMin: orNull(observation.lambda_min),
      gradNorm: orNull(observation.grad_norm),
      probe: observation.probe ?? {},
      status: observation.status ?? "ok",
      regime: decision.regime,
      reasons: decision.reasons ?? [],
      causes: decision.causes ?? [],
      version: decision.version,
      action: decision.action ?? "continue",
      multipliers: decision.multipliers,
      policy: decision.policy,
      at: record.recorded_at,
      backfilled: record.origin === "backfill",
      deviates: record.deviates === true,
    });
  }

  /** Names of what the user logged; each is a column, null where nothing was. */
  get metrics() {
    return Object.keys(this.columns).filter((name) => name.startsWith(METRIC)).sort();
  }

  #logged(metrics) {
    for (const name of Object.keys(metrics)) {
      if (this.metrics.length < MOST_METRICS) this.columns[METRIC + name] ??= this.entries.map(() => null);
    }
    for (const column of this.metrics) this.columns[column].push(metrics[column.slice(METRIC.length)] ?? null);
  }

  /** Index of the last entry at or before a step; 0 when there is none. */
  indexAt(step) {
    const steps = this.columns.step;
    let low = 0;
    let high = steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle] <= step) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }
}
