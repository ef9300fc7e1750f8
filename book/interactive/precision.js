// Average precision of a ranking: the reader says which of its places are hits.
begin("precision", (live, data, say) => {
  const hits = data.hits.map(() => false);
  const top = element(live, "div", { class: "precision-top" });
  thumb(element(top, "div", { class: "precision-query" }), 0, data.query);
  const told = element(top, "div", {});
  element(told, "p", { class: "live-told" },
    "The query, and its ranking, nearest first. Click every image that shows the same person.");
  const formula = element(told, "p", { class: "live-told precision-ap" });
  const others = element(told, "p", { class: "live-told" });

  const row = element(live, "div", { class: "live-row" });
  const places = data.images.map((image, place) => {
    const column = element(row, "div", { class: "precision-place" });
    const bar = element(element(column, "div", { class: "precision-bar" }), "span", {});
    const press = button(column, "", () => { hits[place] = !hits[place]; update(); });
    thumb(press, place + 1); // place 0 of the sheet is the query
    return { bar, press, text: element(press, "span", {}), said: `Rank ${place + 1}, ${image}` };
  });

  const presets = element(live, "div", {});
  const count = data.hits.filter(Boolean).length, last = data.hits.length - count;
  const put = (wanted) => { hits.forEach((_, i) => { hits[i] = wanted(i); }); update(); };
  button(presets, "Show the right answer", () => put((i) => data.hits[i]));
  button(presets, "Same hits, all first", () => put((i) => i < count));
  button(presets, "Same hits, all last", () => put((i) => i >= last));
  button(presets, "Clear", () => put(() => false));

  function update() {
    let found = 0, sum = 0, lastHit = 0;
    const parts = [];
    places.forEach(({ bar, press, text, said }, i) => {
      const precision = (found + (hits[i] ? 1 : 0)) / (i + 1);
      if (hits[i]) {
        found += 1;
        sum += precision;
        lastHit = i + 1;
        parts.push(`${found}/${i + 1}`);
      }
      bar.style.height = `${hits[i] ? 100 * precision : 0}%`;
      set(press, { "aria-pressed": hits[i], "aria-label": said });
      text.textContent = hits[i] ? `✓ ${found}/${i + 1}` : `✗ ${i + 1}`;
    });
    const ap = found ? (sum / found).toFixed(3) : "–";
    formula.textContent = found ? `AP = (${parts.join(" + ")}) / ${found} = ${ap}` : "AP = –";
    others.textContent = found
      ? `Rank-1 = ${hits[0] ? 1 : 0}, INP = ${found}/${lastHit} = ${(found / lastHit).toFixed(3)}`
      : "Without a hit no score is defined.";
    say(`AP ${ap}`);
  }

  update();
});
