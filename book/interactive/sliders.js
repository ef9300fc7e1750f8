// A figure whose numbers were computed before, for every setting of its sliders.
//
// It needs nothing but this file and the JSON beside it, so it works from a file, in a
// notebook and in the book. Without JavaScript the table that stands in the figure is
// shown. `figures.sliders` in notebooks/ writes both into a page.
(function () {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  // Okabe and Ito's colours, which colour-blind readers tell apart; each has a contrast
  // of 3 or more with a white and with a dark page.
  const COLOURS = ["#0077bb", "#c45a00", "#008f68", "#b0568f", "#7a6a00", "#6b6bd6", "#777777"];
  const ROW = 26, LABEL = 150, WIDTH = 640, NUMBER = 64;

  function element(parent, name, attributes, text) {
    const svg = ["svg", "g", "rect", "text", "line", "title"].includes(name);
    const made = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return parent.appendChild(made);
  }

  // The numbers of one setting: one row for each category, one entry for each measure.
  function chosen(data, places) {
    return places.reduce((values, place) => values[place], data.values);
  }

  function shown(value, measure) {
    if (value === null) return "–";
    return value.toFixed(measure.digits) + (measure.unit ? "\u202f" + measure.unit : "");
  }

  function bars(parent, data, measure, place) {
    element(parent, "p", { class: "sliders-measure" }, measure.label);
    const height = ROW * data.categories.length;
    const svg = element(parent, "svg", {
      viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": measure.label,
    });
    return data.categories.map((category, row) => {
      const y = ROW * row;
      element(svg, "text", { x: LABEL - 8, y: y + 18, "text-anchor": "end" }, category);
      const bar = element(svg, "rect", {
        x: LABEL, y: y + 4, height: ROW - 8, width: 0, fill: COLOURS[row % COLOURS.length],
      });
      const number = element(svg, "text", { x: LABEL + 6, y: y + 18 });
      return (values) => {
        const value = values[row][place];
        const share = value === null ? 0 : Math.max(0, Math.min(1, value / measure.max));
        const width = share * (WIDTH - LABEL - NUMBER);
        bar.setAttribute("width", width);
        number.setAttribute("x", LABEL + width + 6);
        number.textContent = shown(value, measure);
      };
    });
  }

  function start(figure) {
    if (figure.dataset.started) return;
    figure.dataset.started = "yes";
    const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const live = element(figure, "div", { class: "sliders-live" });
    figure.insertBefore(live, figure.firstChild);
    const places = data.controls.map((control) => control.start);
    const controls = element(live, "div", { class: "sliders-controls" });
    const panels = element(live, "div", {});
    const updates = data.measures.flatMap((measure, place) => bars(panels, data, measure, place));
    const spoken = element(live, "p", { class: "sliders-spoken", "aria-live": "polite" });

    function update() {
      const values = chosen(data, places);
      updates.forEach((one) => one(values));
      spoken.textContent = data.controls
        .map((control, number) => `${control.label}: ${control.values[places[number]]}`)
        .join("; ");
    }

    data.controls.forEach((control, number) => {
      const label = element(controls, "label", {});
      element(label, "span", {}, control.label);
      const slider = element(label, "input", {
        type: "range", min: 0, max: control.values.length - 1, step: 1, value: control.start,
        name: control.name,
      });
      const value = element(label, "output", {});
      const move = () => {
        places[number] = Number(slider.value);
        value.textContent = control.values[places[number]];
        slider.setAttribute("aria-valuetext", value.textContent);
        update();
      };
      slider.addEventListener("input", move);
      move();
    });
    figure.querySelector(".sliders-static").hidden = true;
  }

  document.querySelectorAll("figure.sliders").forEach(start);
})();
