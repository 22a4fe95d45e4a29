// The fields in which some runs' specifications differ, as a table.

import { addressOf } from "./address.js";
import { h } from "./dom.js";

function flat(value, path, found) {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    for (const [name, inner] of Object.entries(value)) flat(inner, path ? `${path}.${name}` : name, found);
  } else {
    found.set(path, typeof value === "string" ? value : JSON.stringify(value));
  }
  return found;
}

export function differences(runs) {
  const specs = runs.map((run) => flat(run.spec, "", new Map()));
  const paths = [...new Set(specs.flatMap((spec) => [...spec.keys()]))].sort();
  const differing = paths.filter((path) => new Set(specs.map((spec) => spec.get(path))).size > 1);
  if (!differing.length) return h("p", { class: "empty muted" }, "Nowhere: they were declared alike.");
  return h(
    "table",
    { class: "differences" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Field"), runs.map((run) => h("th", { scope: "col" }, h("a", { href: addressOf([run.project, run.run]) }, `${run.project}/${run.run}`))))),
    h("tbody", {}, differing.map((path) => h("tr", {}, h("th", { scope: "row" }, path), specs.map((spec) => h("td", {}, spec.get(path) ?? "–"))))),
  );
}
