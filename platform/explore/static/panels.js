"use strict";
/* Each view's answer becomes what its panel shows. */

function strip(element, tokens, options = {}) {
  const many = tokens.some((text) => [...text].length > 1);
  const shown = tokens.map((text, index) => {
    const p = options.shade ? options.shade[index] : null;
    const properties = {
      className: "token" + (many ? " many" : "") + (p === null || p === undefined ? "" : " shaded"),
      title: options.titles ? options.titles[index] : spoken(text),
      p: p ?? undefined,
    };
    if (!options.press) return make("span", properties, ...parts(text));
    const token = make("button", { ...properties, type: "button", "aria-pressed": String(index === options.pressed), "aria-label": properties.title }, ...parts(text));
    token.addEventListener("click", () => options.press(index));
    return token;
  });
  if (options.tints) shown.forEach((token, i) => token.style.setProperty("--tint", options.tints[i]));
  element.replaceChildren(...shown);
}

const panels = {
  next(answer, question) {
    byId("cut").textContent = answer.cut
      ? `Cut on the left: this checkpoint reads the last ${answer.read.length} tokens, ${answer.cut} are left out.`
      : answer.started ? "No text: the beginning of a document." : /\s$/.test(question.text)
        ? "The text ends in white space, after which most models are at a loss: words bring their own space." : "";
    strip(byId("tokens"), answer.read);
    byId("tokens").setAttribute("aria-label", `${answer.read.length} tokens: ` + answer.read.map(spoken).join(", "));
    byId("options").replaceChildren(...answer.options.map((option, index) => optionRow(option, index)));
    const own = answer.own;
    byId("own-p").textContent = own ? `${percent(own.p)}${own.tokens.length > 1 ? ` over ${own.tokens.length} tokens` : ""}` : "";
    byId("own-p").title = own ? own.tokens.map((t) => `${spoken(t.text)} ${percent(t.p)}`).join(", ") : "";
  },

  endings(answer) {
    if (!answer.endings) { byId("endings").replaceChildren(); return; }
    const rows = answer.endings.map((ending) => optionRow({ ...ending, shown: ending.ended ? ending.text : ending.text + "\u2026" }));
    byId("endings").replaceChildren(make("h2", {}, "To the next space"),
      make("ol", { className: "options", "aria-label": "Likeliest strings up to the next space; a click appends" }, ...rows));
  },

  ladder(rows) {
    const found = new Map(rows.filter((row) => row.name).map((row) => [row.name, row]));
    drawGrid(found, rows.length === 0);
    const end = rows.find((row) => "lead" in row || ("problem" in row && !row.name));
    byId("lead").textContent = end ? end.lead ?? "" : "";
    byId("lead").classList.toggle("problem", Boolean(end && end.problem));
    if (end && end.problem) byId("lead").textContent = end.problem;
    if (end) drawCharts(found);
  },

  surprise(answer) {
    const [model, other] = answer.models;
    const parts = [surpriseRow(model)];
    if (other && other.name !== model.name) {
      parts.push(surpriseRow(other));
      const difference = differenceRow(model, other);
      if (difference) parts.push(difference);
    }
    const legend = make("p", { className: "soft" }, "0 bits", make("span", { className: "legend" }), "10 bits and more: -log2 of the token's probability. The text is read as the beginning of a document.");
    byId("surprise").replaceChildren(...parts, legend);
  },

  attention(answer) { drawAttention(answer, null); },

  lens(answer) {
    const tokens = shownTokens(answer).slice(answer.first);
    const head = make("tr", {}, make("th", {}, "after"), ...tokens.map((text) => make("th", { title: spoken(text) }, ...parts(text))));
    const rows = answer.layers.map((cells, layer) => make("tr", {}, make("th", {}, layer ? `layer ${layer}` : "embedding"),
      ...cells.map((cell) => make("td", {}, make("div", { className: "lenscell", p: cell.p, title: `${spoken(cell.text)}: ${percent(cell.p)}` }, ...parts(cell.text), make("span", { className: "below" }, percent(cell.p)))))));
    const scroll = make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Logit lens" },
      make("table", { className: "lens" }, make("thead", {}, head), make("tbody", {}, ...rows)));
    const note = answer.first ? [make("p", { className: "soft" }, `The last ${tokens.length} of ${tokens.length + answer.first} positions.`)] : [];
    byId("lens").replaceChildren(scroll, ...note);
    scroll.scrollLeft = scroll.scrollWidth;
  },
};

function shownTokens(answer) { return answer.started ? ["<|endoftext|>", ...answer.read] : answer.read; }

/* An option with its bar: a click appends it. */
function optionRow(option, index) {
  const shown = option.shown ?? option.text;
  const main = make("button", { type: "button", className: "option", p: option.p, title: index < 9 ? `Append (Alt+${index + 1})` : "Append", "aria-label": `Append ${spoken(option.text)}, ${percent(option.p)}` },
    make("span", { className: "what" }, ...parts(shown)), make("span", { className: "p" }, percent(option.p)));
  main.addEventListener("click", () => append(option.text));
  main.disabled = Boolean(page.saved) || option.text === "";
  const follow = make("button", { type: "button", className: "follow", title: "Follow in the ladder", "aria-label": `Follow ${spoken(option.text)} in the ladder` }, "ladder");
  follow.addEventListener("click", () => { byId("first").value = option.text; show("ladder"); changed(); });
  follow.disabled = Boolean(page.saved) || option.text === "";
  return make("li", {}, main, follow);
}

function drawGrid(found, waiting) {
  const models = page.state.models;
  const budgets = [...new Set(models.map((m) => m.tokens))].sort((a, b) => (a ?? 0) - (b ?? 0));
  const sizes = [...new Set(models.map((m) => `${m.params} ${m.size}`))];
  const head = make("tr", {}, make("th", {}, "Size", make("span", { className: "unit" }, "parameters")),
    ...budgets.map((tokens) => make("th", {}, tokens === null ? "Checkpoint" : count(tokens), make("span", { className: "unit" }, tokens === null ? "as released" : "tokens"))));
  const rows = sizes.map((key) => {
    const own = models.filter((m) => `${m.params} ${m.size}` === key);
    const label = make("th", {}, own[0].size, make("span", { className: "unit" }, count(own[0].params)));
    return make("tr", {}, label, ...budgets.map((tokens) => make("td", {}, ...own.filter((m) => m.tokens === tokens).map((m) => cell(m, found.get(m.name))))));
  });
  const focused = document.activeElement?.dataset?.model;
  byId("grid").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  if (focused) [...byId("grid").querySelectorAll("button")].find((b) => b.dataset.model === focused)?.focus();
}

function cell(model, row) {
  const chosen = { "aria-pressed": String(byId("model").value === model.name), type: "button", title: model.name };
  let button;
  if (!row) button = make("button", { ...chosen, className: "cell waiting" }, "\u2026");
  else if (row.problem) button = make("button", { ...chosen, className: "cell problem", title: row.problem }, "cannot be read");
  else {
    button = make("button", { ...chosen, className: "cell", p: row.top.p, title: row.cut ? `${model.name}: reads the end of the text, ${row.cut} tokens are cut` : model.name },
      make("span", { className: "top" }, make("span", {}, ...parts(row.top.text)), make("span", {}, percent(row.top.p))));
    const [first, second] = row.candidates;
    const wins = first !== null && second !== null && first !== second ? (first > second ? 0 : 1) : null;
    row.candidates.forEach((p, index) => {
      if (p === null) return;
      const text = byId(index ? "second" : "first").value.trim() || spoken(byId(index ? "second" : "first").value);
      button.append(make("span", { className: "pair" }, make("span", { className: (index ? "second" : "first") + (wins === index ? " wins" : "") }, `${shorten(text, 12)} ${percent(p)}`)));
    });
  }
  if (model.seed) button.append(make("span", { className: "pair soft" }, `seed ${model.seed}`));
  button.dataset.model = model.name;
  button.addEventListener("click", () => choose(model.name));
  return button;
}

/* p of the candidates against N, each size at its most tokens, and of the first against tokens, a line a size. */
function drawCharts(found) {
  const models = page.state.models.filter((m) => found.get(m.name)?.candidates);
  const names = ["first", "second"].map((id) => byId(id).value);
  const most = new Map();
  for (const m of models) most.set(m.params, Math.max(most.get(m.params) ?? 0, m.tokens ?? 0));
  const figures = [];
  const over = (chosen, x, index) => meanBy(chosen.map((m) => [m[x], found.get(m.name).candidates[index]]).filter(([, p]) => typeof p === "number"));
  if (most.size > 1 && names[0]) {
    const last = models.filter((m) => (m.tokens ?? 0) === most.get(m.params));
    const series = names.map((name, index) => ({ name: name.trim() || spoken(name), colour: index ? "#D55E00" : "#0072B2", dash: index === 1, points: over(last, "params", index) })).filter((line) => line.points.length);
    figures.push(lineChart("Probability against size, each at its most tokens", series, "parameters"));
  }
  if (new Set(models.map((m) => m.tokens)).size > 1 && names[0]) {
    const sizes = [...most.keys()].sort((a, b) => a - b);
    const series = sizes.map((params, index) => {
      const own = models.filter((m) => m.params === params && m.tokens !== null);
      return { name: own[0]?.size ?? "", colour: PALETTE[index % PALETTE.length], points: over(own, "tokens", 0) };
    }).filter((line) => line.points.length);
    figures.push(lineChart(`Probability of "${names[0].trim()}" against tokens, a line for each size`, series, "tokens"));
  }
  byId("charts").replaceChildren(...figures);
}

/* [x, y] with the mean of y for each x: seeds are averaged. */
function meanBy(points) {
  const groups = new Map();
  for (const [x, y] of points) groups.set(x, [...(groups.get(x) ?? []), y]);
  return [...groups].map(([x, ys]) => [x, ys.reduce((a, b) => a + b, 0) / ys.length]);
}

function surpriseRow(model) {
  const about = page.state.models.find((m) => m.name === model.name);
  const element = make("div", { className: "strip", role: "group", "aria-label": `Surprise of ${model.name}` });
  strip(element, model.read, {
    shade: model.bits.map((bits) => (bits === null ? null : Math.min(1, bits / 10))),
    titles: model.read.map((text, i) => `${spoken(text)}: ${model.bits[i] === null ? "nothing before it" : model.bits[i].toFixed(2) + " bits"}`),
  });
  const mean = model.mean_nats === null ? "No token to score." : `Mean ${model.mean_nats.toFixed(3)} nats per token` +
    (about && about.heldout !== null ? `; held-out loss of its run ${about.heldout.toFixed(3)}.` : ".");
  return make("section", {}, make("h2", {}, about ? nameOf(about) : model.name), element, make("p", { className: "soft" }, mean + (model.cut ? ` ${model.cut} tokens are cut on the left.` : "")));
}

function differenceRow(model, other) {
  const own = model.bits, theirs = other.bits;
  if (own.length !== theirs.length || model.read.some((text, i) => text !== other.read[i])) {
    return make("p", { className: "soft" }, "The two read the text in other tokens or cut it elsewhere, so there is no difference by token.");
  }
  const difference = own.map((bits, i) => (bits === null || theirs[i] === null ? null : theirs[i] - bits));
  const element = make("div", { className: "strip", role: "group", "aria-label": "Difference" });
  strip(element, model.read, {
    shade: difference.map((d) => (d === null ? null : Math.min(1, Math.abs(d) / 5))),
    tints: difference.map((d) => (d !== null && d > 0 ? "var(--accent)" : "var(--heat)")),
    titles: model.read.map((text, i) => `${spoken(text)}: ${difference[i] === null ? "nothing before it" : (difference[i] >= 0 ? "+" : "") + difference[i].toFixed(2) + " bits"}`),
  });
  return make("section", {}, make("h2", {}, "Difference"), element,
    make("p", { className: "soft" }, "Blue: the first checkpoint expects the token more than the second; orange: less. Full colour at 5 bits."));
}

/* The mean of all heads, or of a layer, or one head, on the text; below it, what each head looks at most. */
function drawAttention(answer, chosen) {
  const heads = answer.weights.flat();
  const named = chosen === null ? "mean of all heads" : chosen.head === null ? `layer ${chosen.layer + 1}, mean` : `layer ${chosen.layer + 1}, head ${chosen.head + 1}`;
  const rows = chosen === null ? heads : chosen.head === null ? answer.weights[chosen.layer] : [answer.weights[chosen.layer][chosen.head]];
  const weights = rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
  const tokens = shownTokens(answer);
  const element = make("div", { className: "strip", id: "looks", role: "group", "aria-label": `Attention, ${named}` });
  strip(element, tokens, {
    shade: tokens.map((_, i) => (i < weights.length ? Math.sqrt(weights[i]) : null)),
    titles: tokens.map((text, i) => spoken(text) + (i < weights.length ? `: ${percent(weights[i])}` : "")),
    pressed: answer.position,
    press: page.saved ? () => {} : (index) => { page.position = index; refresh("attention"); },
  });
  const title = make("p", { className: "soft", id: "looks-at" }, `From "${spoken(tokens[answer.position])}", ${named}. Darker: more weight (by its root).`);
  const old = byId("heads");
  if (chosen !== null && old) { byId("looks").replaceWith(element); byId("looks-at").replaceWith(title); return; }
  byId("attention").replaceChildren(title, element, make("div", { className: "scroll" }, headTable(answer, tokens)),
    make("p", { className: "soft" }, "Each head with the token that it gives the most weight; point at one, or move the focus to it, to see it on the text."));
}

function headTable(answer, tokens) {
  const table = make("table", { className: "heads", id: "heads" });
  const button = (layer, head, ...children) => {
    const element = make("button", { type: "button", className: "headcell" }, ...children);
    for (const event of ["mouseenter", "focus", "click"]) element.addEventListener(event, () => drawAttention(answer, { layer, head }));
    return element;
  };
  answer.weights.forEach((heads, layer) => {
    const cells = heads.map((row, head) => {
      const most = row.indexOf(Math.max(...row));
      const element = button(layer, head, ...parts(tokens[most]));
      element.style.setProperty("--p", row[most]);
      element.setAttribute("aria-label", `Layer ${layer + 1}, head ${head + 1}: most on ${spoken(tokens[most])}, ${percent(row[most])}`);
      return make("td", {}, element);
    });
    table.append(make("tr", {}, make("th", {}, button(layer, null, `layer ${layer + 1}`)), ...cells));
  });
  return table;
}

/* Benchmarks' items: who got which right, and where sizes differ. */
function drawItems() {
  const items = page.state.items;
  if (!items.length) {
    byId("items").replaceChildren(make("p", { className: "soft" }, "No items. Score the checkpoints with ladder evaluate --samples FILE and open the page with ladder explore --samples FILE."));
    return;
  }
  const select = make("select", { id: "which" }, ...["where checkpoints differ", "wrong", "right", "all"].map((name) => make("option", { value: name }, name)));
  select.value = page.which ?? select.value;
  select.addEventListener("change", () => { page.which = select.value; drawItems(); byId("which").focus(); });
  const name = byId("model").value;
  const wanted = items.filter((item) => {
    const all = Object.values(item.right), own = item.right[name];
    return { wrong: own === false, right: own === true, all: true }[select.value] ?? (all.includes(true) && all.includes(false));
  });
  const rows = wanted.slice(0, 200).map(itemRow);
  byId("items").replaceChildren(make("p", { className: "row" }, make("label", { className: "field" }, "Items ", select), make("span", { className: "soft" }, `${wanted.length} of ${items.length}; right and wrong are of the chosen checkpoint`)),
    make("div", { className: "scroll" }, make("table", { className: "items" }, make("tbody", {}, ...rows))));
}

function itemRow(item) {
  const open = make("button", { type: "button" }, "Open");
  open.disabled = Boolean(page.saved);
  open.addEventListener("click", () => {
    const given = item.candidates ?? [];
    if (given.length) { byId("first").value = given[0]; byId("second").value = given[1] ?? ""; }
    setText(item.prompt);
    show("ladder");
  });
  const order = page.state.models.filter((m) => m.name in item.right);
  const who = order.map((m) => make("span", { className: item.right[m.name] ? "right" : "wrong", title: nameOf(m) }, item.right[m.name] ? "\u2713" : "\u2717"));
  const label = order.map((m) => `${nameOf(m)} ${item.right[m.name] ? "right" : "wrong"}`).join("; ");
  return make("tr", {}, make("td", {}, `${item.benchmark} ${item.item}`), make("td", {}, shorten(item.prompt, 160), make("br"), make("span", { className: "soft" }, (item.candidates ?? [String(item.answer ?? "")]).join(" / "))),
    make("td", { className: "who", role: "img", "aria-label": label }, ...who), make("td", {}, open));
}
