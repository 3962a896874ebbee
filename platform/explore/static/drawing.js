"use strict";
/* Line charts on logarithmic axes, as SVG made by hand. */

const PALETTE = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"];
const CHART = { width: 440, height: 270, left: 66, right: 90, top: 12, bottom: 44 };

function svg(tag, attributes = {}, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/* A figure of series {name, colour, dash, points: [[x, y]]}; y is a probability. */
function lineChart(caption, series, xTitle) {
  const points = series.flatMap((line) => line.points).filter(([, y]) => y > 0);
  const figure = make("figure", {}, make("figcaption", {}, caption));
  if (points.length < 2) return figure;
  const x = scale(points.map(([v]) => v), CHART.left, CHART.width - CHART.right, 0);
  const y = scale(points.map(([, v]) => v), CHART.height - CHART.bottom, CHART.top, 1);
  const drawing = svg("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", "aria-label": describeChart(caption, series, xTitle) });
  drawAxes(drawing, x, y, xTitle);
  const ends = series.map((line) => drawLine(drawing, line, x, y)).filter(Boolean);
  placeLabels(drawing, ends);
  figure.append(drawing);
  return figure;
}

/* A logarithmic scale from values to positions. */
function scale(values, from, to, highest) {
  let low = Math.log10(Math.min(...values)), high = Math.log10(Math.max(...values));
  if (highest) { low = Math.floor(low * 2) / 2; high = Math.min(0, Math.ceil(high * 2 + 0.01) / 2); }
  if (high - low < 0.3) { low -= 0.15; high += highest ? 0 : 0.15; }
  const pad = highest ? 0 : 0.04 * (high - low);
  low -= pad; high += pad;
  const place = (value) => from + (Math.log10(value) - low) / (high - low) * (to - from);
  return { place, low, high, values: [...new Set(values)].sort((a, b) => a - b) };
}

function drawAxes(drawing, x, y, xTitle) {
  const bottom = CHART.height - CHART.bottom, right = CHART.width - CHART.right;
  const step = Math.max(1, Math.ceil((y.high - y.low) / 5));
  const decades = [];
  for (let power = Math.ceil(y.low); power <= Math.floor(y.high + 1e-9); power += step) decades.push(10 ** power);
  const ticks = decades.length > 1 ? decades : [10 ** y.low, 10 ** ((y.low + y.high) / 2), 10 ** y.high];
  for (const value of ticks) {
    const at = y.place(value);
    drawing.append(svg("line", { x1: CHART.left, x2: right, y1: at, y2: at, class: "axis" }));
    drawing.append(svg("text", { x: CHART.left - 6, y: at + 4, "text-anchor": "end", class: "soft" }, percent(value).replace(/\.0+ %/, " %")));
  }
  drawing.append(svg("line", { x1: CHART.left, x2: right, y1: bottom, y2: bottom, class: "axis" }));
  let last = -Infinity;
  for (const value of x.values) {
    const at = x.place(value);
    drawing.append(svg("line", { x1: at, x2: at, y1: bottom, y2: bottom + 4, class: "axis" }));
    if (at - last < 44) continue;
    last = at;
    drawing.append(svg("text", { x: at, y: bottom + 17, "text-anchor": "middle", class: "soft" }, count(value)));
  }
  drawing.append(svg("text", { x: (CHART.left + right) / 2, y: CHART.height - 6, "text-anchor": "middle" }, xTitle));
}

/* Draws a line with its points and returns where it ends. */
function drawLine(drawing, line, x, y) {
  const shown = line.points.filter(([, p]) => p > 0).sort((a, b) => a[0] - b[0]);
  if (!shown.length) return null;
  const at = shown.map(([a, b]) => [x.place(a), y.place(b)]);
  const style = { fill: "none", stroke: line.colour, "stroke-width": 2, "stroke-linejoin": "round" };
  if (line.dash) style["stroke-dasharray"] = "6 4";
  drawing.append(svg("polyline", { points: at.map((place) => place.join(",")).join(" "), ...style }));
  at.forEach(([cx, cy], index) => {
    const dot = svg("circle", { cx, cy, r: 3.5, fill: line.colour });
    dot.append(svg("title", {}, `${spoken(line.name)}: ${percent(shown[index][1])} at ${count(shown[index][0])}`));
    drawing.append(dot);
  });
  return { x: at.at(-1)[0], y: at.at(-1)[1], name: line.name, colour: line.colour };
}

/* Names beside the ends of lines, moved apart. */
function placeLabels(drawing, ends) {
  const sorted = [...ends].sort((a, b) => a.y - b.y);
  let last = -Infinity;
  for (const end of sorted) { end.at = Math.max(end.y + 4, last + 14); last = end.at; }
  let floor = CHART.height - CHART.bottom + 4;
  for (const end of sorted.reverse()) { end.at = Math.min(end.at, floor); floor = end.at - 14; }
  for (const end of sorted) {
    const label = svg("text", { x: end.x + 9, y: end.at }, shorten(end.name, 13));
    label.style.fill = `color-mix(in srgb, ${end.colour} 75%, var(--ink))`;
    drawing.append(label);
  }
}

function shorten(text, most) { return text.length > most ? text.slice(0, most - 1) + "\u2026" : text; }

function describeChart(caption, series, xTitle) {
  const lines = series.map((line) => `${spoken(line.name)}: ` + line.points.map(([x, p]) => `${percent(p)} at ${count(x)}`).join(", "));
  return `${caption}, against ${xTitle}. ${lines.join("; ")}`;
}
