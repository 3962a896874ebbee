"use strict";
/* Texts and numbers as people read them. Every text reaches the page by textContent: what is typed is data. */

const MARKS = { " ": "\u2423", "\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d" };

const POWERS = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";

/* An element with properties, attributes and children; a string among them becomes a text. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("aria-") || name === "role" || name === "for" || name === "colspan") element.setAttribute(name, value);
    else if (name === "p") element.style.setProperty("--p", value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

function byId(id) { return document.getElementById(id); }

/* A token's parts: spaces, controls and bytes that are no UTF-8 are marks, everything else is itself. */
function parts(text) {
  if (text === "") return [make("span", { className: "mark" }, "(none)")];
  const found = [];
  let plain = "";
  for (const character of text) {
    const shown = markOf(character);
    if (shown === null) { plain += character; continue; }
    if (plain) found.push(plain);
    plain = "";
    found.push(make("span", { className: "mark" }, shown));
  }
  if (plain) found.push(plain);
  return found;
}

/* How a character that cannot be seen is shown; null for one that can. */
function markOf(character) {
  const code = character.codePointAt(0);
  if (character in MARKS) return MARKS[character];
  if (code >= 0xdc80 && code <= 0xdcff) return "0x" + (code - 0xdc00).toString(16).toUpperCase();
  if (code < 32 || (code >= 127 && code < 160) || (code >= 0x200b && code <= 0x200f) || (code >= 0x202a && code <= 0x202e)
    || (code >= 0x2060 && code <= 0x206f) || code === 0xfeff) return "U+" + code.toString(16).toUpperCase().padStart(4, "0");
  return null;
}

/* A token in words, for screen readers and tooltips. */
function spoken(text) {
  const names = { " ": "space", "\n": "line break", "\t": "tab" };
  return [...text].map((c) => (c in names ? ` ${names[c]} ` : markOf(c) ?? c)).join("").trim() || "nothing";
}

function percent(p) {
  if (p === null || p === undefined) return "";
  const value = 100 * p;
  if (value >= 9.95) return value.toFixed(1) + " %";
  if (value >= 0.0095) return value.toFixed(value >= 0.095 ? 2 : 3) + " %";
  if (value === 0) return "0 %";
  const [digit, power] = value.toExponential(0).split("e-");
  return `${digit}\u00b710\u207b${[...power].map((d) => POWERS[d]).join("")} %`;
}

/* 24,000 to 24.0K: three digits with a unit. */
function count(value) {
  for (const [unit, scale] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["K", 1e3]]) {
    if (value >= scale) return String(Number((value / scale).toPrecision(3))) + unit;
  }
  return String(value);
}

/* What a checkpoint is called where there is little room. */
function nameOf(model) {
  if (model.tokens === null) return `${model.name} (${count(model.params)})`;
  const seed = model.seed ? `, seed ${model.seed}` : "";
  return `${model.size} (${count(model.params)}), ${count(model.tokens)} tokens${seed}`;
}
