// An event as elements. Whatever an agent wrote goes in as text, never as HTML.

import { day, exact, make, moment, timeOfDay } from "./page.js";

const FENCE = /^[ \t]*(`{3,}|~{3,})[ \t]*([\w+.-]*)[^\n]*\n([\s\S]*?)(?:^[ \t]*\1[ \t]*$|$(?![\s\S]))/gm;
const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|(https?:\/\/[^\s<>"'`)\]}]+[^\s<>"'`)\]}.,;:!?])/g;
const HEADING = /^#{1,6} /;
const LONG = 40;

function line(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    if (found.index > end) parts.push(text.slice(end, found.index));
    if (found[1] !== undefined) parts.push(make("code", {}, found[1]));
    else if (found[2] !== undefined) parts.push(make("b", {}, found[2]));
    else parts.push(make("a", { href: found[3], rel: "noreferrer noopener nofollow", target: "_blank" }, found[3]));
    end = found.index + found[0].length;
  }
  if (end < text.length) parts.push(text.slice(end));
  return parts;
}

function paragraphs(text) {
  const body = make("div", { class: "prose" });
  let plain = [];
  const flush = () => {
    if (plain.length) body.append(make("p", {}, ...line(plain.join("\n"))));
    plain = [];
  };
  for (const each of text.split("\n")) {
    if (HEADING.test(each)) {
      flush();
      body.append(make("p", { class: "heading" }, ...line(each.replace(HEADING, ""))));
    } else if (!each.trim()) flush();
    else plain.push(each);
  }
  flush();
  return body;
}

export function prose(text) {
  const parts = document.createDocumentFragment();
  let end = 0;
  for (const found of text.matchAll(FENCE)) {
    const before = text.slice(end, found.index);
    if (before.trim()) parts.append(paragraphs(before));
    parts.append(code(found[3].replace(/\n$/, ""), found[2]));
    end = found.index + found[0].length;
  }
  if (text.slice(end).trim()) parts.append(paragraphs(text.slice(end)));
  return parts;
}

const isPatch = (text) => /^(\*\*\* Begin Patch|diff --git |--- \S.*\n\+\+\+ )/m.test(text);

export function code(text, language = "") {
  const block = make("pre", { tabindex: "-1", "data-language": language });
  if (language !== "diff" && !isPatch(text)) {
    block.append(make("code", {}, text));
    return block;
  }
  const inner = make("code", { class: "diff" });
  for (const each of text.split("\n")) {
    const kind = /^(\+\+\+|---|diff |index |\*\*\* )/.test(each) ? "file" : { "+": "added", "-": "removed", "@": "place" }[each[0]];
    inner.append(kind ? make("span", { class: kind }, each) : each, "\n");
  }
  block.append(inner);
  return block;
}

function parsed(text) {
  if (text[0] !== "{" && text[0] !== "[") return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const lines = (text, sign) => text.replace(/\n$/, "").split("\n").map((each) => sign + each).join("\n");

// JSON as one reads it: texts as texts, a replacement as what goes and what comes, the rest indented.
export function data(text) {
  const found = parsed(text);
  if (found === null || typeof found !== "object" || Array.isArray(found)) return code(found ? JSON.stringify(found, null, 2) : text);
  const parts = make("dl", { class: "data" });
  const { old_string: gone, new_string: come, ...rest } = found;
  const changed = typeof gone === "string" && typeof come === "string";
  for (const [name, value] of Object.entries(changed ? rest : found)) {
    const words = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    const long = words.includes("\n") || words.length > 100;
    parts.append(make("dt", {}, name), make("dd", {}, long ? code(words) : make("code", {}, words)));
  }
  if (changed) parts.append(make("dt", {}, "change"), make("dd", {}, code(`${lines(gone, "-")}\n${lines(come, "+")}`, "diff")));
  return parts;
}

function body(item) {
  const part = make("div", { class: "body" });
  if (item.kind === "message" || item.kind === "reasoning") part.append(prose(item.text));
  else if (item.text) part.append(data(item.text));
  if (item.meta && item.meta !== "{}") part.append(data(item.meta));
  if (item.size) {
    const words = `${exact(item.size)} characters in all: show them`;
    part.append(make("button", { class: "whole", type: "button", "data-whole": item.key }, words));
  }
  return part;
}

function folded(item, label, head) {
  const fold = make("details", { class: "fold" });
  const count = item.text.split("\n").length;
  fold.append(
    make(
      "summary",
      { tabindex: "-1" },
      make("span", { class: "label" }, label),
      make("span", { class: "head-line" }, head),
      count > 1 && item.kind !== "tool_call" ? make("span", { class: "dim lines" }, `${item.size ? "over " : ""}${exact(count)} lines`) : "",
    ),
  );
  // Made when it is first unfolded: most folds of a long session never are.
  fold.addEventListener("toggle", () => fold.open && fill(fold, item), { once: true });
  return fold;
}

export function fill(fold, item) {
  if (fold.querySelector(".body")) return;
  fold.append(body(item));
}

const NAMES = { user: "You", assistant: "Agent", developer: "Developer", system: "System", tool: "Tool" };
const DIVIDERS = { session_start: "session begins", session_end: "session ends" };

function inside(item) {
  if (item.kind === "tool_call") return folded(item, item.tool || "tool", item.head);
  if (item.kind === "tool_result") return folded(item, item.failed ? "failed" : "result", item.head || "(nothing)");
  if (item.kind === "reasoning") return folded(item, "thinking", item.head);
  if (item.kind in DIVIDERS) return folded(item, DIVIDERS[item.kind], item.kind === "session_end" ? item.head : "");
  if (item.kind === "action") return folded(item, "action", item.head);
  if (item.kind !== "message" || (item.role !== "user" && item.role !== "assistant")) {
    if (item.text.length < 400 && item.kind === "message") return body(item);
    return folded(item, item.kind === "message" ? item.role : item.kind, item.head || item.meta || "");
  }
  return item.role === "user" && item.text.split("\n").length > LONG ? folded(item, "", item.head) : body(item);
}

export function event(item) {
  const role = NAMES[item.role] || item.role;
  const time =
    item.ts === null ? make("span", {}, "–") : make("a", { class: "at", href: `#${item.key}`, title: moment(item.ts) }, timeOfDay(item.ts));
  const speaks = item.kind === "message" && item.role in NAMES;
  return make(
    "li",
    {
      class: `event step role-${/^[a-z]+$/.test(item.role) ? item.role : "other"} kind-${item.kind.replace(/[^a-z_]/g, "")}${item.failed ? " failed" : ""}${item.inherited ? " inherited" : ""}`,
      id: `e${item.key}`,
      tabindex: "0",
      "data-key": item.key,
      "data-day": item.ts === null ? "" : day(item.ts),
      "aria-label": `${role}, ${item.kind.replace("_", " ")}`,
    },
    make("div", { class: "gutter" }, speaks ? make("b", {}, role) : "", time, make("span", { class: "seq" }, `#${item.seq}`)),
    make("div", { class: "inside" }, inside(item)),
  );
}

// The searched words, marked where they stand.
export function mark(element, words) {
  const sought = words.filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (!sought.length) return;
  const pattern = new RegExp(sought.join("|"), "gi");
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  for (const node of nodes) {
    const text = node.data;
    const parts = [];
    let end = 0;
    for (const found of text.matchAll(pattern)) {
      parts.push(text.slice(end, found.index), make("mark", {}, found[0]));
      end = found.index + found[0].length;
    }
    if (end) node.replaceWith(...parts, text.slice(end));
  }
}
