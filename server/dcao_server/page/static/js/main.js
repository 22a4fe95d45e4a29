// The page: which view the address names, the theme, the key, the keyboard.

import { addressOf, readAddress } from "./address.js";
import { hasKey, Problem, setKey } from "./api.js";
import { CompareView } from "./compare.js";
import { byId, h } from "./dom.js";
import { ListView } from "./list.js";
import { RunView } from "./run.js";
import { isDark, onThemeChange, toggleTheme } from "./theme.js";
import { loadWords } from "./why.js";

let view = null;

function setLink(state, words) {
  const link = byId("link");
  link.hidden = false;
  link.dataset.state = state;
  if (link.textContent !== words) link.textContent = words;
}

function onProblem(problem) {
  const refused = problem instanceof Problem && (problem.status === 401 || problem.status === 403);
  const title = !refused ? (problem.title ?? "Failed") : problem.status === 403 ? "This key may not read that" : hasKey() ? "This key is not valid here" : "An API key is needed";
  const notice = h("p", { class: "notice bad", role: "alert" }, `${title}: ${problem.message}`);
  const next = refused
    ? h("button", { class: "solid", type: "button", onclick: askForKey }, "Enter a key")
    : h("a", { href: "#/" }, "All runs");
  view.element.replaceChildren(notice, next);
  setLink("lost", refused ? "no access" : "nothing to show");
  if (refused) askForKey();
}

function askForKey() {
  byId("key").hidden = false;
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
}

function crumbs(parts) {
  const all = parts.flatMap(([text, href]) => [h("i", { "aria-hidden": "true" }, "/"), href ? h("a", { href }, text) : h("b", {}, text)]);
  byId("crumbs").replaceChildren(...all);
}

async function route() {
  view?.stop();
  const { parts, query } = readAddress();
  const handlers = { setLink, onProblem, query };
  if (parts.length === 2) view = new RunView(parts[0], parts[1], handlers);
  else if (parts[0] === "compare") view = new CompareView(handlers);
  else view = new ListView(handlers);
  document.title = parts.length === 2 ? `${parts[1]} · DCAO` : "DCAO";
  crumbs(parts.length === 2 ? [[parts[0], addressOf([], { project: parts[0] })], [parts[1], null]] : []);
  byId("view").replaceChildren(view.element);
  scrollTo(0, 0);
  await begin(view);
}

/** Starts a view; while the controller is away, again and again. */
async function begin(started) {
  for (let pause = 500; view === started; pause = Math.min(pause * 2, 8000)) {
    try {
      await started.start();
      return;
    } catch (error) {
      if (view !== started) return;
      if (error instanceof Problem && error.status < 500) {
        onProblem(error);
        return;
      }
      setLink("lost", "controller away, trying again");
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

function drawThemeButton() {
  byId("theme").textContent = isDark() ? "☀" : "☾";
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input, textarea, select");
  if (typing && event.key !== "Escape") return;
  if (event.key === "t") toggleTheme();
  else if (event.key === "?") byId("help-dialog").showModal();
  else if (!view?.key(event)) return;
  event.preventDefault();
}

function start() {
  drawThemeButton();
  onThemeChange(drawThemeButton);
  byId("theme").addEventListener("click", toggleTheme);
  byId("help").addEventListener("click", () => byId("help-dialog").showModal());
  byId("key").hidden = !hasKey();
  byId("key").addEventListener("click", () => byId("key-dialog").showModal());
  byId("key-dialog").addEventListener("close", (event) => {
    const chosen = event.target.returnValue;
    if (chosen === "use") setKey(byId("key-input").value.trim());
    else if (chosen === "forget") setKey(null);
    byId("key-input").value = "";
    if (chosen === "use" || chosen === "forget") route();
  });
  addEventListener("hashchange", route);
  addEventListener("keydown", onKey);
  loadWords().finally(route);
}

start();
