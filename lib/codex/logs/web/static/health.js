// How ingestion is, asked every few seconds while the page is looked at.

import { ago, exact, fetched, make, moment } from "./page.js";

const place = document.getElementById("health");
let shown = "";

const bytes = (number) =>
  number < 1024 ? `${number} B` : number < 1 << 20 ? `${(number / 1024).toFixed(1)} KiB` : number < 1 << 30 ? `${(number / (1 << 20)).toFixed(1)} MiB` : `${(number / (1 << 30)).toFixed(1)} GiB`;
const card = (value, name) => make("div", { class: "card" }, make("b", {}, value), make("span", {}, name));

function row(stream) {
  const parsed = Date.parse(stream.committed_at) / 1000;
  const when = Number.isNaN(parsed) ? make("span", {}, "–") : make("span", { title: moment(parsed) }, ago(parsed));
  return make(
    "tr",
    {},
    make("td", { class: "text" }, make("a", { class: "step", href: `/session?${new URLSearchParams({ id: stream.session_id })}` }, stream.session_id), make("div", stream.error ? { class: "errors" } : { class: "path", title: stream.path }, stream.error || make("bdi", {}, stream.path))),
    make("td", {}, stream.state),
    make("td", { class: "number" }, exact(stream.lines)),
    make("td", { class: "number" }, bytes(stream.offset)),
    make("td", { class: stream.lag ? "number errors" : "number" }, bytes(stream.lag)),
    make("td", { class: stream.rejects ? "number errors" : "number" }, exact(stream.rejects)),
    make("td", { class: "number" }, when),
  );
}

function show(status) {
  if (status.error) return place.replaceChildren(make("p", { class: "problem" }, status.error));
  const well = status.health.healthy;
  const verdict = make("div", { class: `verdict ${well ? "well" : "ill"}` }, make("span", { "aria-hidden": "true" }, well ? "✓" : "!"));
  verdict.append(make("div", {}, ...(well ? ["All is well."] : status.health.reasons.map((reason) => make("div", {}, reason)))));
  const cards = make(
    "div",
    { class: "cards" },
    card(status.running ? String(status.pid || "running") : "none", "daemon's process"),
    card(status.watcher, "hears of changes by"),
    card(bytes(status.lag), "appended, not committed"),
    card(exact(status.count), "log files"),
    card(exact(status.rejects), "lines that are no event"),
    card(exact(status.findings), "findings of verify"),
  );
  const names = ["Session", "State", "Lines", "Taken", "Behind", "Rejects", "Last commit"];
  const head = make("tr", {}, ...names.map((name, number) => make("th", { scope: "col", class: number > 1 ? "number" : null }, name)));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...status.streams.map(row)));
  const rest = status.count - status.streams.length;
  place.replaceChildren(verdict, cards, make("div", { class: "wide" }, table), rest > 0 ? make("p", { class: "dim" }, `${exact(rest)} more that have nothing to tell.`) : "");
}

async function ask() {
  if (!document.hidden) {
    try {
      const status = await fetched("/health.json", {});
      const words = JSON.stringify(status);
      if (words !== shown && !place.contains(document.activeElement)) {
        show(status);
        shown = words;
      }
    } catch (error) {
      show({ error: `The page's server doesn't answer (${error.message}). Start codex-logs web again.` });
      shown = "";
    }
  }
  setTimeout(ask, 3000);
}

ask();
