// One threshold: rates of every two cameras, and the alarms of an hour.
begin("threshold", (live, data, say) => {
  const state = { model: data.model, place: data.start, images: 1 };
  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 2 : 0)}\u202f%`;
  const controls = element(live, "div", {});
  const update = bars(live, "", ["false matches", "true matches"]);
  element(live, "p", { class: "live-head" }, "False matches between every two cameras (%)");
  const grid = element(live, "table", { class: "threshold-grid" });
  const head = element(element(grid, "thead", {}), "tr", {});
  element(head, "th", { scope: "col" }, "camera");
  data.cameras.forEach((camera) => element(head, "th", { scope: "col" }, camera));
  const body = element(grid, "tbody", {});
  const cells = data.cameras.map((camera, row) => {
    const line = element(body, "tr", {});
    element(line, "th", { scope: "row" }, camera);
    return data.cameras.slice(0, row + 1).map(() => element(line, "td", {}));
  });
  const told = element(live, "p", { class: "live-told threshold-alarms" });

  let ready = false;
  function draw() {
    if (!ready) return;
    const { fpr, tpr, cameras } = data.models[state.model].values[state.place];
    update([[fpr, percent(fpr)], [tpr, percent(tpr)]]);
    const high = Math.max(...cameras.flat(), 1e-9);
    cells.forEach((line, row) => line.forEach((cell, column) => {
      const share = cameras[row][column];
      cell.textContent = (100 * share).toFixed(share < 0.0995 ? 1 : 0);
      cell.style.background = `rgb(0 119 187 / ${0.6 * (share / high)})`;
    }));
    // Expectations: as many false alarms as images of others are accepted.
    const images = data.images[state.images];
    const wrong = images * fpr, right = data.matches * tpr;
    const share = wrong + right > 0 ? ` ${Math.round((100 * right) / (wrong + right))} of 100 alarms are right.` : "";
    told.textContent = `An hour with ${images.toLocaleString("en")} images of others and ` +
      `${data.matches} of the person: ${wrong.toFixed(1)} false alarms, ${right.toFixed(1)} true.${share}`;
    say(`${percent(fpr)} false, ${percent(tpr)} true matches; ${told.textContent}`);
  }

  const option = (label, name, values, start, put) =>
    choice(controls, { label, name, values, start }, (place) => { put(place); draw(); });
  option("Model", "model", data.models.map((one) => one.name), state.model, (at) => { state.model = at; });
  option("Images an hour", "images", data.images.map((n) => n.toLocaleString("en")), state.images,
    (at) => { state.images = at; });
  slider(controls, { label: "Threshold", name: "threshold", values: data.thresholds, start: data.start },
    (place) => { state.place = place; draw(); });
  ready = true;
  draw();
});
