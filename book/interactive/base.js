// What the interactive figures share. A page holds this text, that of its figure, and the
// figure's numbers, so it needs no network and works from a file, in a notebook and in the
// book. `figures.page` in notebooks/ writes them, with a static form for readers and
// printers without JavaScript.
"use strict";
// Okabe and Ito's hues, which colour-blind readers tell apart; each has a contrast of 3 or
// more with a white and with a dark page.
const COLOURS = ["#0077bb", "#c45a00", "#008f68", "#b0568f", "#7a6a00", "#6b6bd6", "#777777"];
const RIGHT = COLOURS[2], WRONG = COLOURS[1];
const DRAWN = new Set(["svg", "g", "rect", "text", "line", "path", "circle"]);
let figures = 0; // names of controls must differ between the figures of a page

function set(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function element(parent, name, attributes, text) {
  const made = DRAWN.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  set(made, attributes || {});
  if (text !== undefined) made.textContent = text;
  return parent.appendChild(made);
}

// A slider over the places of a list of texts; `moved` hears the place, also at the start.
function slider(parent, control, moved) {
  const label = element(parent, "label", { class: "live-slider" });
  element(label, "span", {}, control.label);
  const input = element(label, "input", {
    type: "range", min: 0, max: control.values.length - 1, step: 1, name: control.name,
  });
  input.value = control.start;
  const shown = element(label, "output", {});
  const move = () => {
    shown.textContent = control.values[input.value];
    input.setAttribute("aria-valuetext", shown.textContent);
    moved(Number(input.value));
  };
  input.addEventListener("input", move);
  move();
  return (place) => { input.value = place; move(); };
}

// One of several texts; `moved` hears its place, also at the start.
function choice(parent, control, moved) {
  const group = element(parent, "fieldset", { class: "live-choice" });
  element(group, "legend", {}, control.label);
  const name = `${control.name}-${figures}-${Math.random().toString(36).slice(2)}`;
  control.values.forEach((text, place) => {
    const label = element(group, "label", {});
    const input = element(label, "input", { type: "radio", name });
    input.checked = place === control.start;
    element(label, "span", {}, text);
    input.addEventListener("change", () => moved(place));
  });
  moved(control.start);
}

function button(parent, text, pressed) {
  const made = element(parent, "button", { type: "button", class: "live-button" }, text);
  made.addEventListener("click", pressed);
  return made;
}

// Bars below each other; they are drawn by a list of shares, in [0, 1], and texts.
function bars(parent, title, labels) {
  if (title) element(parent, "p", { class: "live-head" }, title);
  const rows = labels.map((label, at) => {
    const row = element(parent, "div", { class: "live-bar" });
    element(row, "span", {}, label);
    const bar = element(element(row, "span", { class: "live-track" }), "span", {});
    bar.style.background = COLOURS[at % COLOURS.length];
    return { bar, number: element(row, "span", { class: "live-number" }) };
  });
  return (values) => rows.forEach(({ bar, number }, at) => {
    const [share, text] = values[at];
    bar.style.width = `${100 * Math.max(0, Math.min(1, share || 0))}%`;
    number.textContent = text;
  });
}

// Curves over the places of a slider, in the colours of the bars, and a mark at one place.
// They are drawn by a list of values in [0, 1] for each curve, and the place.
function curves(parent, count, ends, label) {
  const W = 360, LOW = 108;
  const svg = element(parent, "svg", {
    viewBox: `0 0 ${W} 110`, role: "img", "aria-label": label, class: "live-small",
  });
  element(svg, "line", { x1: 0, x2: W, y1: LOW, y2: LOW, stroke: "currentColor" });
  const axis = element(parent, "p", { class: "live-axis" });
  ends.forEach((text) => element(axis, "span", {}, text));
  const mark = element(svg, "line", { y1: 0, y2: LOW, stroke: "currentColor", "stroke-dasharray": "2 3" });
  const lines = [...Array(count).keys()].map((at) => element(svg, "path", {
    fill: "none", stroke: COLOURS[at], "stroke-width": 3, "stroke-dasharray": ["", "8 4", "2 3"][at],
  }));
  const dots = lines.map((_, at) => element(svg, "circle", { r: 5, fill: COLOURS[at] }));
  return (values, place) => {
    const x = (i) => 6 + ((W - 12) * i) / (values[0].length - 1), y = (v) => LOW - 104 * v;
    set(mark, { x1: x(place), x2: x(place) });
    values.forEach((line, at) => {
      set(lines[at], { d: "M" + line.map((v, i) => `${x(i)} ${y(v)}`).join("L") });
      set(dots[at], { cx: x(place), cy: y(line[place]) });
    });
  };
}

// One picture of the sheet that stands in the static form.
function thumb(parent, place, label) {
  const made = element(parent, "span", { class: "live-thumb" });
  if (label) set(made, { role: "img", "aria-label": label });
  const sheet = parent.closest("figure").querySelector("img.live-sheet");
  const columns = Number(sheet.dataset.columns), rows = Number(sheet.dataset.rows);
  const share = (at, all) => (all > 1 ? (100 * at) / (all - 1) : 0);
  made.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
  made.style.backgroundPosition =
    `${share(place % columns, columns)}% ${share(Math.floor(place / columns), rows)}%`;
  return made;
}

// Draw every figure of a kind that the page holds and that was not drawn yet. `draw` gets
// the place to draw into, the numbers, and a function that says a sentence to those who
// hear the page.
function begin(kind, draw) {
  document.querySelectorAll(`figure.live[data-figure="${kind}"]`).forEach((figure) => {
    if (figure.dataset.started) return;
    figure.dataset.started = "yes";
    figures += 1;
    const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const live = element(figure, "div", { class: "live-live" });
    figure.insertBefore(live, figure.firstChild);
    const sheet = figure.querySelector("img.live-sheet");
    if (sheet) live.style.setProperty("--sheet", `url("${sheet.src}")`);
    const spoken = element(live, "p", { class: "live-spoken", "aria-live": "polite" });
    draw(live, data, (text) => { spoken.textContent = text; });
    figure.querySelector(".live-static").hidden = true;
  });
}
