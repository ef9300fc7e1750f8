// Rankings of a few queries under every weight alpha between two descriptors.
begin("fusion", (live, data, say) => {
  const state = { query: 0, alpha: data.start };
  const controls = element(live, "div", {});
  const top = element(live, "div", { class: "precision-top" });
  const asked = element(top, "div", {});
  const told = element(top, "div", {});
  const line = curves(told, 2, ["α = 0: appearance", "α = 1: attributes"],
    "Average precision of the query and mean average precision against alpha");
  const update = bars(told, "", ["AP of this query", "mAP of all queries"]);
  const row = element(live, "div", { class: "live-row" });
  element(live, "p", { class: "live-told" },
    "The nearest gallery images, with their rank. Below it, the rank by the appearance alone.");

  let ready = false;
  function draw() {
    if (!ready) return;
    const query = data.queries[state.query], ranking = query.rankings[state.alpha];
    const before = query.rankings[0].images;
    asked.textContent = "";
    thumb(asked, query.image, `The query, person ${query.person}`);
    row.textContent = "";
    ranking.images.forEach((image, place) => {
      const hit = ranking.hits[place], old = before.indexOf(image);
      const cell = element(row, "div", { class: `stepper-cell stepper-${hit ? "stays" : "wrong"}` });
      thumb(cell, image, `Rank ${place + 1}, ${hit ? "the person" : "another person"}`);
      element(cell, "span", {}, `${hit ? "✓" : "✗"} ${place + 1}`);
      element(cell, "span", {}, old < 0 ? "new" : `was ${old + 1}`);
    });
    const ap = query.rankings.map((one) => one.ap);
    const percent = (share) => `${(100 * share).toFixed(1)}\u202f%`;
    line([ap, data.mean], state.alpha);
    update([ap, data.mean].map((all) => [all[state.alpha], percent(all[state.alpha])]));
    say(`alpha ${data.alphas[state.alpha]}: average precision ${percent(ap[state.alpha])}`);
  }

  choice(controls, { label: "Query", name: "query", values: data.queries.map((q) => q.name), start: 0 },
    (place) => { state.query = place; draw(); });
  slider(controls, { label: "Weight α", name: "alpha", values: data.alphas, start: data.start },
    (place) => { state.alpha = place; draw(); });
  ready = true;
  draw();
});
