// The controller's HTTP API. One key for the tab, sent to this origin only.

let key = null;
try {
  key = sessionStorage.getItem("dcao-key");
} catch {
  key = null;
}

export const hasKey = () => key !== null;

export function setKey(value) {
  key = value || null;
  try {
    if (key === null) sessionStorage.removeItem("dcao-key");
    else sessionStorage.setItem("dcao-key", key);
  } catch {
    // Kept in memory.
  }
}

/** What the controller answered instead of what was asked: status, and its own words. */
export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

export async function request(path, { method = "GET", body, headers = {}, signal, timeout = 10000 } = {}) {
  const all = { ...headers };
  if (body !== undefined) all["Content-Type"] = "application/json";
  if (key !== null) all.Authorization = `Bearer ${key}`;
  const limits = [signal, timeout ? AbortSignal.timeout(timeout) : null].filter(Boolean);
  const response = await fetch(path, { method, body: body === undefined ? undefined : JSON.stringify(body), headers: all, signal: AbortSignal.any(limits), cache: "no-store" });
  if (response.ok) return response;
  let document = {};
  try {
    document = await response.json();
  } catch {
    // Not the controller's own words; the status says enough.
  }
  throw new Problem(response.status, document.title ?? `HTTP ${response.status}`, document.detail ?? "");
}

export const getJson = async (path, options) => (await request(path, options)).json();

const name = encodeURIComponent;
export const runPath = (project, run) => `/v1/projects/${name(project)}/runs/${name(run)}`;

/** The decisions of another policy for what a run has measured, some of each part of the run. */
export async function replayed(path, policy, points, signal) {
  const response = await request(`${path}:replay?points=${points}`, { method: "POST", body: { name: policy }, signal, timeout: 120000 });
  return (await response.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
}
