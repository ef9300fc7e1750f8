// What DBSCAN makes of real images for every radius and size of neighbourhood.
begin("radius", (live, data, say) => {
  const state = {};
  const controls = element(live, "div", {});
  const told = element(live, "p", { class: "live-told radius-told" });
  const update = bars(live, "", data.measures);
  const eps = data.eps.values;
  const line = curves(live, 3, [`eps = ${eps[0]}`, eps[eps.length - 1]],
    "Pair precision, recall and F against the radius");
  element(live, "p", { class: "live-head" }, "The largest clusters");
  const clusters = element(live, "div", {});

  function draw_cluster({ size, people, most, shown }) {
    element(clusters, "p", { class: "live-told" },
      `${size} images of ${people} ${people === 1 ? "person" : "people"}` +
      (size > shown.length ? `, ${shown.length} of them:` : ":"));
    const row = element(clusters, "div", { class: "live-row radius-row" });
    shown.forEach((place) => {
      const right = data.people[place] === most;
      const cell = element(row, "div", { class: `stepper-cell stepper-${right ? "stays" : "wrong"}` });
      thumb(cell, place, `person ${data.people[place]}, camera ${data.cameras[place]}`);
      element(cell, "span", {}, right ? "✓" : "✗");
    });
  }

  function draw() {
    if (state.k1 === undefined || state.eps === undefined) return;
    const all = data.settings[state.k1], one = all[state.eps];
    told.textContent = `${one.clusters} clusters, ${Math.round(100 * one.outside)}\u202f% outliers`;
    update(one.values.map((value) => [value, value === null ? "–" : value.toFixed(2)]));
    line(data.measures.map((_, at) => all.map(({ values }) => values[at] || 0)), state.eps);
    clusters.textContent = "";
    one.largest.forEach(draw_cluster);
    say(told.textContent);
  }

  slider(controls, { label: "Radius eps", name: "eps", ...data.eps }, (at) => { state.eps = at; draw(); });
  slider(controls, { label: "Neighbours k1", name: "k1", ...data.k1 }, (at) => { state.k1 = at; draw(); });
});
