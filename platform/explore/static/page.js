"use strict";
/* The state of the page, its questions to the server and what its controls do. */

const VIEWS = ["ladder", "surprise", "attention", "lens", "items"];
const FIELDS = ["text", "first", "second", "model", "other", "own", "top_k", "temperature"];
const page = { saved: null, state: null, view: "ladder", position: null, past: [], typed: 0, flights: {}, shown: {} };

/* The question that the controls ask. */
function question() {
  return {
    text: byId("text").value, model: byId("model").value, other: byId("other").value,
    candidates: [byId("first").value, byId("second").value],
    top_k: Math.min(100, Math.max(1, Math.round(Number(byId("top_k").value)) || 10)),
    temperature: Math.min(100, Math.max(0, Number(byId("temperature").value))),
    own: byId("own").value, position: page.position,
  };
}

/* Ask for a view. One question of a view is under way at a time; the newest waits and the one under way is dropped, so
   that what is shown last is the answer to what was typed last. */
async function refresh(view) {
  const flight = (page.flights[view] ??= { wanted: null, busy: false, abort: null });
  flight.wanted = question();
  document.body.dataset.ready = "";
  if (flight.busy) { flight.abort?.abort(); return; }
  flight.busy = true;
  while (flight.wanted) {
    const asked = flight.wanted;
    flight.wanted = null;
    flight.abort = new AbortController();
    try {
      const answer = await (view === "ladder" ? askLadder(asked, flight) : ask(view, asked, flight.abort.signal));
      if (!flight.wanted) { panels[view](answer, asked); page.shown[view] = asked.text; complain(""); }
    } catch (error) {
      if (error.name !== "AbortError" && !flight.wanted) { fail(view, error.message); page.shown[view] = asked.text; }
    }
  }
  flight.busy = false;
  if (!Object.values(page.flights).some((f) => f.busy)) document.body.dataset.ready = JSON.stringify(byId("text").value);
}

async function ask(view, asked, signal) {
  if (page.saved) return page.saved.answers[view];
  const response = await send(`api/${view}`, asked, signal);
  return response.json();
}

async function send(path, asked, signal) {
  let response;
  try {
    response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is ladder explore still running?");
  }
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).problem ?? `The server answered ${response.status}.`);
  return response;
}

/* The ladder comes a line a checkpoint; the grid fills as they come. */
async function askLadder(asked, flight) {
  if (page.saved) return page.saved.answers.ladder;
  const reader = (await send("api/ladder", asked, flight.abort.signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  const rows = [];
  let rest = "", drawn = performance.now();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return rows;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    rows.push(...lines.map((line) => JSON.parse(line)));
    if (performance.now() - drawn > 400 && !flight.wanted) { panels.ladder(rows); drawn = performance.now(); }
  }
}

function fail(view, message) {
  complain(message);
  const target = { next: "options", endings: "endings", surprise: "surprise", attention: "attention", lens: "lens" }[view];
  if (target) byId(target).replaceChildren();
}

function complain(message) { byId("notice").textContent = message; }

/* Something that is asked about has changed. */
function changed() {
  refresh("next");
  refresh("endings");
  if (page.view === "items") drawItems(); else refresh(page.view);
  remember();
}

function setText(text) {
  if (page.past.at(-1) !== byId("text").value) page.past.push(page.before ?? byId("text").value);
  byId("text").value = text;
  page.before = text;
  textChanged();
}

function textChanged() {
  page.position = null;
  byId("undo").disabled = Boolean(page.saved) || !page.past.length;
  changed();
}

function append(text) { setText(join(byId("text").value, text)); }

/* Bytes that come one by one make a character once they are whole. */
function join(before, after) {
  const tail = /[\udc80-\udcff]+$/.exec(before + after);
  if (!tail) return before + after;
  const bytes = Uint8Array.from(tail[0], (c) => c.charCodeAt(0) - 0xdc00);
  try {
    return (before + after).slice(0, -tail[0].length) + new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch { return before + after; }
}

function undo() {
  if (!page.past.length) return;
  byId("text").value = page.past.pop();
  page.before = byId("text").value;
  page.typed = 0;
  textChanged();
}

/* What is typed within a second is taken back at once. */
function typed() {
  const now = performance.now();
  if (now - page.typed > 1000) page.past.push(page.before);
  page.typed = now;
  page.before = byId("text").value;
  textChanged();
}

function draw() {
  const rows = [...byId("options").querySelectorAll(".option")].filter((row) => !row.disabled);
  const weights = rows.map((row) => Number(row.style.getPropertyValue("--p")));
  let at = Math.random() * weights.reduce((a, b) => a + b, 0);
  rows.find((_, index) => (at -= weights[index]) <= 0)?.click();
}

function choose(name) {
  if (page.saved) return;
  byId("model").value = name;
  page.position = null;
  for (const cell of byId("grid").querySelectorAll("[data-model]")) cell.setAttribute("aria-pressed", String(cell.dataset.model === name));
  refresh("next"); refresh("endings");
  if (page.view === "items") drawItems(); else if (page.view !== "ladder") refresh(page.view);
  remember();
}

function show(view) {
  page.view = view;
  for (const name of VIEWS) {
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === view));
    byId(`tab-${name}`).tabIndex = name === view ? 0 : -1;
    byId(`panel-${name}`).hidden = name !== view;
  }
  if (view === "items") drawItems(); else refresh(view);
  remember();
}

/* The link that opens the page as it is. */
function remember() {
  if (page.saved || !page.state) return;
  const parameters = new URLSearchParams({ view: page.view });
  // JSON escapes bytes that are no UTF-8, which an address cannot hold.
  for (const id of FIELDS) parameters.set(id, JSON.stringify(byId(id).value).slice(1, -1));
  if (page.position !== null) parameters.set("position", page.position);
  history.replaceState(null, "", "#" + parameters);
}

function recall(hash) {
  const parameters = new URLSearchParams(hash.slice(1));
  for (const id of FIELDS) {
    if (!parameters.has(id)) continue;
    try { byId(id).value = JSON.parse(`"${parameters.get(id)}"`); } catch { byId(id).value = parameters.get(id); }
  }
  if (!byId("model").value) byId("model").value = page.state.models.at(-1).name;
  page.position = /^\d+$/.test(parameters.get("position") ?? "") ? Number(parameters.get("position")) : null;
  return VIEWS.includes(parameters.get("view")) ? parameters.get("view") : "ladder";
}

async function copyLink() {
  remember();
  try { await navigator.clipboard.writeText(location.href); complain("The link is copied; it opens while ladder explore runs at this address."); } catch { complain(`Copy it from the address bar: ${location.href}`); }
}

async function save() {
  try {
    const response = await send(`api/save/${page.view}`, question());
    const link = make("a", { href: URL.createObjectURL(await response.blob()), download: "explore.html" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) { complain(error.message); }
}

function listen() {
  byId("text").addEventListener("input", typed);
  for (const id of ["first", "second", "own", "top_k", "temperature"]) byId(id).addEventListener("input", changed);
  byId("model").addEventListener("change", () => choose(byId("model").value));
  byId("other").addEventListener("change", () => { refresh("surprise"); remember(); });
  byId("undo").addEventListener("click", undo);
  byId("draw").addEventListener("click", draw);
  byId("example").addEventListener("click", () => { fillExample(); setText(page.state.example.text); });
  byId("link").addEventListener("click", copyLink);
  byId("save").addEventListener("click", save);
  for (const view of VIEWS) byId(`tab-${view}`).addEventListener("click", () => show(view));
  byId("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    show(VIEWS[(VIEWS.indexOf(page.view) + step + VIEWS.length) % VIEWS.length]);
    byId(`tab-${page.view}`).focus();
  });
  document.addEventListener("keydown", (event) => {
    if (!event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.code === "KeyZ") { event.preventDefault(); undo(); }
    const digit = /^Digit([1-9])$/.exec(event.code);
    if (digit) { event.preventDefault(); byId("options").querySelectorAll(".option")[digit[1] - 1]?.click(); }
  });
  addEventListener("hashchange", () => { const view = recall(location.hash); byId("undo").disabled = !page.past.length; show(view); refresh("next"); refresh("endings"); });
}

function fillExample() { [byId("first").value, byId("second").value] = page.state.example.candidates; }

function fillModels() {
  const models = page.state.models;
  const option = (model) => make("option", { value: model.name }, nameOf(model));
  byId("model").replaceChildren(...models.map(option));
  byId("other").replaceChildren(...models.map(option));
  byId("model").value = models.at(-1).name;
  byId("other").value = models[0].name;
}

function openSaved() {
  const asked = page.saved.question;
  for (const id of ["text", "model", "other", "own", "top_k", "temperature"]) byId(id).value = asked[id];
  [byId("first").value, byId("second").value] = asked.candidates;
  page.position = asked.position;
  for (const control of document.querySelectorAll(".write input, .write textarea, .write select, .write button, .look input, .look select, header button")) control.disabled = true;
  complain("A saved copy: it shows the answers to this text and needs no server. To type, run ladder explore.");
  byId("notice").style.color = "var(--soft)";
}

async function start() {
  const saved = byId("saved");
  page.saved = saved && JSON.parse(saved.textContent);
  page.state = page.saved ? page.saved.state : await (await fetch("api/state")).json();
  byId("title").textContent = page.state.title;
  document.title = `${page.state.title}: ladder explore`;
  fillModels();
  fillExample();
  byId("text").value = page.state.example.text;
  let view = page.saved ? page.saved.view : recall(location.hash);
  if (page.saved) openSaved(); else listen();
  if (page.saved) for (const name of VIEWS) byId(`tab-${name}`).addEventListener("click", () => show(name));
  page.before = byId("text").value;
  byId("undo").disabled = true;
  show(VIEWS.includes(view) ? view : "ladder");
  refresh("next");
  refresh("endings");
}

start();
