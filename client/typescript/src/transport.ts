// One request at a time to a controller: bounded in time and in bytes, to this address only.

/** Why there is no answer; `status` and `retryAfter` (ms) if it was a refusal. */
export type Failure = Error & { status?: number; retryAfter?: number };

const MOST_BYTES = 256 * 1024, LONGEST_RETRY = 60_000;

export class Transport {
  private readonly headers: Record<string, string> = { "content-type": "application/json" };

  constructor(private readonly url: string, apiKey?: string) {
    if (!/^https?:\/\//.test(url)) throw new Error("expected a url that begins with http:// or https://");
    if (apiKey) this.headers["authorization"] = `Bearer ${apiKey}`;
  }

  /** The JSON of an answer within `timeout` ms, from connecting to the last byte; else throws a Failure. */
  async send(method: string, path: string, body: unknown, timeout: number): Promise<unknown> {
    const stop = new AbortController(), timer = setTimeout(() => stop.abort(), Math.max(timeout, 0));
    try {
      const options = { method, headers: this.headers, body: JSON.stringify(body), signal: stop.signal };
      const reply = await fetch(this.url.replace(/\/+$/, "") + path, { ...options, redirect: "error" });
      const text = await bounded(reply);
      if (reply.ok) return JSON.parse(text);
      const retryAfter = Math.min(Number(reply.headers.get("retry-after")) * 1000, LONGEST_RETRY) || 0;
      throw Object.assign(new Error(`the controller answers ${reply.status}`), { status: reply.status, retryAfter });
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The text of an answer as long as it may be, however well it was compressed. */
async function bounded(reply: Response): Promise<string> {
  const reader = reply.body?.getReader(), decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "", bytes = 0;
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    bytes += part.value.length;
    if (bytes > MOST_BYTES) {
      await reader?.cancel();
      throw new Error(`expected an answer of at most ${MOST_BYTES} bytes`);
    }
    text += decoder.decode(part.value, { stream: true });
  }
  return text + decoder.decode();
}
