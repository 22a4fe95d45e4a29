// One event stream per browser. Over HTTP/1.1 a browser opens six connections to a host, for all its tabs together: six
// streams would leave none for anything else. The tab that holds the lease streams; the others ask every two seconds.
//
// A lease in localStorage rather than a Web Lock, which browsers keep from pages that come without TLS. When two tabs
// write at once both stream until the next look, a second later.

const NAME = "dcao-stream";
const HELD_MS = 5000;
export const RENEW_MS = 1000;

const own = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;

function holder() {
  const [id, until] = (localStorage.getItem(NAME) ?? "").split(" ");
  return Number(until) > Date.now() && Number(until) <= Date.now() + HELD_MS ? id : null;
}

/** Whether this tab may stream, for the next five seconds; to be asked again every second. */
export function lease() {
  try {
    if (document.hidden) return release();
    const held = holder();
    if (held !== null && held !== own) return false;
    localStorage.setItem(NAME, `${own} ${Date.now() + HELD_MS}`);
    return holder() === own;
  } catch {
    return true; // without storage each tab is on its own
  }
}

/** Leaves it to another tab. */
export function release() {
  try {
    if (holder() === own) localStorage.removeItem(NAME);
  } catch {
    // There was none.
  }
  return false;
}

addEventListener("pagehide", release);
