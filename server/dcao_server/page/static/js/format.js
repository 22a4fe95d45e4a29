// Numbers and times for people.

const MINUS = "\u2212";

/** About three significant digits; powers of ten beyond five digits. An absent number is a dash. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const bare = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  let text;
  if (size >= 1e5 || size < 1e-3) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    text = `${bare(mantissa)}e${exponent.replace("+", "")}`;
  } else if (size >= 10 ** digits) {
    text = String(Math.sign(value) * Math.round(size));
  } else {
    text = value.toPrecision(digits);
    text = bare(text.includes("e") ? String(Number(text)) : text); // 999.6 is 1.00e+3
  }
  return text.replaceAll("-", MINUS);
}

/** Two decimals, for values near 1. */
export const fixed = (value) => (value === null || value === undefined ? "–" : value.toFixed(2).replace("-", MINUS));

/** Axis labels: short, and the same form for the whole axis. */
export function tick(value) {
  if (value === null) return "";
  return number(value, 3);
}

export const integer = (value) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: 0 });

export function percent(value) {
  return value === null || value === undefined ? "–" : `${number(100 * value, 2)} %`;
}

/** "12 s ago"; `then` in seconds since the epoch. */
export function ago(then, now = Date.now() / 1000) {
  const seconds = Math.max(0, now - then);
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

export const plural = (count, one, many = `${one}s`) => `${integer(count)} ${count === 1 ? one : many}`;
