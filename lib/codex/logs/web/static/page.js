// What every page does: keys, times that stay true, elements made of text alone.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export async function fetched(path, query) {
  const address = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) if (value !== "" && value !== null) address.searchParams.set(name, value);
  const answer = await fetch(address, { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const daily = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const counts = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en-US");

export const some = (number, word) => (number ? `${exact(number)} ${word}${number === 1 ? "" : "s"}` : "");
export const timeOfDay = (ts) => clock.format(new Date(ts * 1000));
export const day = (ts) => daily.format(new Date(ts * 1000));
export const compact = (number) => counts.format(number || 0);
export const exact = (number) => whole.format(number || 0);

export function moment(ts) {
  const date = new Date(ts * 1000);
  const two = (number) => String(Math.trunc(Math.abs(number))).padStart(2, "0");
  const ahead = -date.getTimezoneOffset();
  const offset = `${ahead < 0 ? "-" : "+"}${two(ahead / 60)}${two(ahead % 60)}`;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${timeOfDay(ts)}${offset}`;
}

export function ago(ts) {
  const seconds = Math.max(0, Date.now() / 1000 - ts);
  if (seconds < 5) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  if (seconds < 7 * 86400) return `${Math.floor(seconds / 86400)} d ago`;
  return day(ts);
}

export function when(ts) {
  if (ts === null || ts === undefined) return make("time", {}, "–");
  const date = new Date(ts * 1000);
  const iso = Number.isNaN(date.getTime()) ? "" : date.toISOString();
  return make("time", { datetime: iso, title: iso ? moment(ts) : "", "data-ts": ts }, ago(ts));
}

function keepTimes() {
  for (const time of document.querySelectorAll("time[data-ts]")) {
    const words = ago(Number(time.dataset.ts));
    if (time.textContent !== words) time.textContent = words;
    if (!time.title) time.title = moment(Number(time.dataset.ts));
  }
}
keepTimes();
setInterval(keepTimes, 1000);

// One stream for what is in view: a browser has six connections to a host, for all of its tabs together.
export function follow(address, heard) {
  const link = document.getElementById("link");
  const tell = (state, words) => {
    if (!link) return;
    link.dataset.state = state;
    link.lastElementChild.textContent = words;
  };
  let source = null;
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(address());
    source.onopen = () => tell("live", "live");
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return tell("waiting", "connecting again");
      source = null;
      tell("lost", "not connected: reload, or start codex-logs web again");
      setTimeout(open, 5000);
    };
    for (const [kind, take] of Object.entries(heard)) source.addEventListener(kind, (event) => take(JSON.parse(event.data)));
  };
  const close = () => {
    if (source) source.close();
    source = null;
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
  return { again: () => { close(); open(); } };
}

// Keys. What can be stepped through has the class "step".
export const keys = new Map();
const steps = () => [...document.querySelectorAll(".step")].filter((element) => element.getClientRects().length);

export function step(by) {
  const all = steps();
  if (!all.length) return;
  const here = all.indexOf(document.activeElement?.closest?.(".step"));
  const inView = all.findIndex((element) => element.getBoundingClientRect().bottom > 80);
  const next = here >= 0 ? here + by : inView >= 0 ? inView : 0;
  const chosen = all[Math.min(all.length - 1, Math.max(0, next))];
  chosen.focus({ preventScroll: true });
  chosen.scrollIntoView({ block: "nearest" });
}

keys.set("j", () => step(1));
keys.set("k", () => step(-1));
keys.set("/", () => { const box = document.getElementById("q"); box.focus(); box.select(); });
keys.set("?", () => document.getElementById("keys").showModal());
keys.set("s", () => location.assign("/"));
keys.set("u", () => location.assign("/usage"));
keys.set("h", () => location.assign("/health"));
keys.set("g", () => scrollTo(0, 0));
keys.set("G", () => scrollTo(0, document.documentElement.scrollHeight));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest?.("input:not([type=radio]), textarea, select");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  const act = keys.get(event.key);
  if (act) {
    event.preventDefault();
    act(event);
  }
});
