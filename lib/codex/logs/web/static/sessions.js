// The list of sessions, kept as it is by the server's words.

import { compact, exact, follow, make, some, when } from "./page.js";

const list = document.getElementById("list");
const filters = document.getElementById("filters");
const more = document.getElementById("more");
const shown = new Map();
let limit = 60;

function row(session) {
  const link = make("a", { class: "session step", href: `/session?${new URLSearchParams({ id: session.id })}` });
  const counts = [
    some(session.turns, "turn") || some(session.events, "event"),
    some(session.calls, "call"),
  ].filter(Boolean);
  link.append(
    make("span", { class: "state", "data-state": session.state }, session.state || "unknown"),
    make(
      "span",
      { class: "what" },
      make("strong", {}, session.title || session.name),
      make(
        "span",
        { class: "where" },
        make("span", { class: `badge agent-${session.agent}` }, session.agent),
        session.project ? make("span", { title: session.cwd }, session.project) : "",
        session.branch ? make("span", { class: "branch" }, session.branch) : "",
        make("span", { class: "dim" }, counts.join(" · ")),
        session.errors ? make("span", { class: "errors" }, some(session.errors, "error")) : "",
        session.parent ? make("span", { class: "dim" }, "sub-agent") : "",
      ),
    ),
    make("span", { class: "tokens", title: `${exact(session.tokens)} tokens` }, session.tokens ? `${compact(session.tokens)} tok` : ""),
    when(session.last),
  );
  return make("li", { "data-id": session.id }, link);
}

function show(sessions) {
  const focused = document.activeElement?.closest?.("#list li")?.dataset.id;
  const seen = new Set();
  let before = list.firstElementChild;
  for (const session of sessions) {
    seen.add(session.id);
    const words = JSON.stringify(session);
    let known = shown.get(session.id);
    if (!known || known.words !== words) {
      const element = row(session);
      if (known) {
        if (known.element === before) before = before.nextElementSibling;
        known.element.remove();
        element.classList.add("changed");
      }
      known = { words, element };
      shown.set(session.id, known);
    }
    if (known.element === before) before = before.nextElementSibling;
    else list.insertBefore(known.element, before);
  }
  for (const [id, known] of shown) {
    if (seen.has(id)) continue;
    known.element.remove();
    shown.delete(id);
  }
  if (focused && shown.has(focused)) shown.get(focused).element.firstElementChild.focus({ preventScroll: true });
  document.getElementById("empty").hidden = sessions.length > 0;
  more.hidden = sessions.length < limit;
}

const chosen = () => new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));
const stream = follow(
  () => {
    const query = chosen();
    query.set("limit", limit);
    return `/sessions/stream?${query}`;
  },
  { sessions: show },
);

let soon = 0;
filters.addEventListener("input", () => {
  clearTimeout(soon);
  soon = setTimeout(() => {
    const query = chosen().toString();
    history.replaceState(null, "", query ? `/?${query}` : "/");
    stream.again();
  }, 150);
});
filters.addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", () => {
  limit *= 2;
  stream.again();
});
