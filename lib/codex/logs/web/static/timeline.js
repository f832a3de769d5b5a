// A session's events: a window of them in the page, more as one scrolls, new ones as they come.

import { compact, exact, fetched, follow, keys, make, some } from "./page.js";
import { data, event, fill, mark, prose } from "./render.js";

const PAGE = 120;
const START = "-1000000000000"; // before every event
const MOST = 480; // events in the page at once, however many the session has
const about = document.getElementById("session").dataset;
const list = document.getElementById("timeline");
const fresh = document.getElementById("fresh");
const items = new Map();
const state = { first: false, last: false, busy: false, unseen: 0, view: about.view, latest: null };

const ends = () => [list.firstElementChild?.dataset.key, list.lastElementChild?.dataset.key];
const atBottom = () => document.documentElement.scrollHeight - innerHeight - scrollY < 120;
const get = (query) => fetched("/session/events.json", { id: about.id, view: state.view, limit: PAGE, ...query });

// What one looks at stays where it is while events come and go above it.
function keeping(change) {
  const anchor = [...list.children].find((element) => element.getBoundingClientRect().bottom > 0);
  const before = anchor?.getBoundingClientRect().top;
  change();
  if (anchor?.isConnected) scrollBy({ top: anchor.getBoundingClientRect().top - before, behavior: "instant" });
}

function made(found) {
  const part = document.createDocumentFragment();
  for (const item of found) {
    if (items.has(item.key)) continue;
    items.set(item.key, item);
    part.append(event(item));
  }
  return part;
}

function drop(element) {
  items.delete(element.dataset.key);
  element.remove();
}

function trim(fromEnd) {
  while (list.children.length > MOST) {
    if (list.children.length <= 1) return;
    if (fromEnd) state.last = false;
    else state.first = false;
    drop(fromEnd ? list.lastElementChild : list.firstElementChild);
  }
}

// Whether these are the last events: not when the stream has told of a later one meanwhile.
const isLast = (last) => last && !(state.latest && ends()[1] && BigInt(state.latest) > BigInt(ends()[1]));

function days() {
  let known = "";
  for (const element of list.children) {
    const day = element.dataset.day;
    element.classList.toggle("new-day", day !== "" && day !== known);
    if (day) known = day;
  }
}

function put(found, { first, last }) {
  items.clear();
  list.replaceChildren(made(found));
  Object.assign(state, { first, last: isLast(last) });
  days();
}

async function once(work) {
  if (state.busy) return;
  state.busy = true;
  document.body.classList.add("busy");
  try {
    await work();
  } finally {
    state.busy = false;
    document.body.classList.remove("busy");
  }
  edges();
}

const older = () =>
  once(async () => {
    const found = await get({ before: ends()[0] });
    keeping(() => {
      list.prepend(made(found.items));
      state.first = found.first;
      trim(true);
      days();
    });
  });

const newer = () =>
  once(async () => {
    const found = await get({ after: ends()[1] });
    keeping(() => {
      list.append(made(found.items));
      state.last = isLast(found.last);
      trim(false);
      days();
    });
  });

function edges() {
  const above = document.getElementById("above");
  const below = document.getElementById("below");
  above.textContent = state.first ? "" : "earlier events";
  below.textContent = state.last ? "" : "later events";
  if (state.busy || !list.children.length) return;
  if (!state.first && above.getBoundingClientRect().bottom > -1500) older();
  else if (!state.last && below.getBoundingClientRect().top < innerHeight + 1500) newer();
}

function tell() {
  fresh.hidden = state.unseen === 0;
  fresh.textContent = state.unseen === Infinity ? "↓ many new events" : `↓ ${exact(state.unseen)} new`;
}

const toEnd = () =>
  once(async () => {
    state.unseen = 0;
    tell();
    if (!state.last || !list.children.length) put(...both(await get({ newest: 1 })));
    scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  });

const toBeginning = () =>
  once(async () => {
    if (!state.first) put(...both(await get({ after: START })));
    state.first = true;
    scrollTo({ top: 0, behavior: "instant" });
  });

const both = (found) => [found.items, found];

function come(found) {
  state.latest = found.at(-1).key;
  if (!state.last) {
    state.unseen += found.length;
    return tell();
  }
  const follows = atBottom();
  const part = made(found);
  const count = part.children.length;
  for (const element of part.children) element.classList.add("fresh-event");
  if (follows) {
    list.append(part);
    trim(false);
    days();
    scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
    const [words] = found.filter((item) => item.kind === "message").slice(-1);
    if (words) document.getElementById("live").textContent = `${words.role}: ${words.head}`;
  } else {
    keeping(() => {
      list.append(part);
      days();
      if (list.children.length > MOST) {
        trim(true);
      }
    });
    state.unseen += count;
    tell();
  }
}

function facts(session) {
  if (!session) return;
  const words = [
    some(session.turns, "turn"),
    some(session.events, "event"),
    some(session.calls, "call"),
    some(session.errors, "error"),
    session.tokens ? `${compact(session.tokens)} tokens` : "",
  ];
  document.querySelector("[data-fact=counts]").textContent = words.filter(Boolean).join(" · ");
  const shown = document.querySelector("#facts .state");
  shown.dataset.state = session.state;
  shown.textContent = session.state || "unknown";
  const title = session.title || session.name;
  document.getElementById("title").textContent = title;
  document.title = `${title} · codex-logs`;
}

function stream() {
  return follow(
    () => {
      const query = new URLSearchParams({ id: about.id, view: state.view });
      if (state.latest) query.set("after", state.latest);
      return `/session/stream?${query}`;
    },
    {
      events: come,
      jump: (latest) => {
        state.latest = latest;
        if (state.last && atBottom()) {
          state.last = false;
          toEnd();
        } else {
          state.last = false;
          state.unseen = Infinity;
          tell();
        }
      },
      session: facts,
    },
  );
}

async function whole(button) {
  const item = await fetched("/session/event.json", { id: about.id, at: button.dataset.whole });
  const place = button.closest(".body");
  const cut = item.size ? make("p", { class: "dim" }, "The rest is in the record: codex-logs raw shows it.") : "";
  place.replaceChildren(item.kind === "message" || item.kind === "reasoning" ? prose(item.text) : data(item.text), cut);
}

function unfold(element, open) {
  const fold = element.querySelector("details");
  if (!fold) return;
  fold.open = open ?? !fold.open;
  if (fold.open) fill(fold, items.get(element.dataset.key));
}

async function goTo(key, words) {
  const found = await get({ around: key });
  put(...both(found));
  const element = document.getElementById(`e${key}`);
  if (!element) return;
  const item = items.get(key);
  unfold(element, true);
  if (item.size) {
    const button = element.querySelector("[data-whole]");
    if (button) await whole(button);
  }
  mark(element, words);
  element.classList.add("sought");
  element.focus({ preventScroll: true });
  (element.querySelector("mark") || element).scrollIntoView({ block: "center", behavior: "instant" });
}

keys.set("g", toBeginning);
keys.set("G", toEnd);
keys.set("x", () => {
  const open = !list.querySelector("details[open]");
  keeping(() => {
    for (const element of list.children) unfold(element, open);
  });
});
keys.set("Enter", () => {
  const here = document.activeElement?.closest?.(".event");
  if (here && document.activeElement === here) unfold(here);
  else if (document.activeElement?.click) document.activeElement.click();
});
keys.set("o", () => keys.get("Enter")());

document.getElementById("first").addEventListener("click", toBeginning);
document.getElementById("last").addEventListener("click", toEnd);
fresh.addEventListener("click", toEnd);
list.addEventListener("click", (click) => {
  const button = click.target.closest("[data-whole]");
  if (button) whole(button);
});
addEventListener("scroll", () => {
  if (state.unseen && state.last && atBottom()) {
    state.unseen = 0;
    tell();
  }
  edges();
}, { passive: true });

let live;
document.getElementById("views").addEventListener("change", async (change) => {
  state.view = change.target.value;
  history.replaceState(null, "", `/session?${new URLSearchParams({ id: about.id, view: state.view })}`);
  state.last = false;
  await toEnd();
  live.again();
});

history.scrollRestoration = "manual";
state.busy = true;
const place = location.hash.slice(1) || about.at;
if (/^-?\d+$/.test(place)) await goTo(place, about.mark.split("\u001f"));
else put(...both(await get({ newest: 1 })));
if (state.last) state.latest = ends()[1] ?? START;
if (!about.at && !location.hash) scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
state.busy = false;
edges();
live = stream();
document.body.classList.add("ready");
