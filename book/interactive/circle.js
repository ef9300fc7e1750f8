// A query on a circle, the mean key and the hard key of its cluster, and what they pull.
begin("circle", (live, data, say) => {
  const R = 140, X = 180, Y = 168;
  const at = (degrees, radius) => {
    const angle = (degrees * Math.PI) / 180;
    return [X + radius * Math.sin(angle), Y - radius * Math.cos(angle)];
  };
  const arc = (from, to, radius) =>
    `M${at(from, radius)}A${radius} ${radius} 0 0 ${to > from ? 1 : 0} ${at(to, radius)}`;
  const move = (node, degrees) =>
    set(node, { transform: `translate(${at(degrees, R)})rotate(${degrees})` });
  const STAR = "M0-12 3-4 12-4 5 2 8 11 0 5-8 11-5 2-12-4-3-4Z", DIAMOND = "M0-10 8 0 0 10-8 0Z";

  const controls = element(live, "div", {});
  const svg = element(live, "svg", {
    viewBox: "0 0 360 180", class: "live-small", role: "img", "aria-label": data.alt,
  });
  const shape = (d, fill) => element(svg, "path", { d, fill, stroke: "currentColor" });
  const dot = (fill) => element(svg, "circle", { r: 4, fill, opacity: 0.85 });
  element(svg, "path", { d: arc(-90, 90, R), fill: "none", stroke: "currentColor", opacity: 0.4 });
  data.rivals.forEach((rival) => {
    rival.images.forEach((degrees) => move(dot(COLOURS[6]), degrees));
    move(shape(STAR, COLOURS[6]), rival.mean);
    move(shape(DIAMOND, COLOURS[6]), rival.hard);
  });
  const images = data.images[0].map(() => dot(COLOURS[2]));
  const keys = [shape(STAR, COLOURS[0]), shape(DIAMOND, COLOURS[1])];
  const query = element(svg, "circle", { r: 7, fill: "currentColor" });
  const pulls = [R + 16, R - 18].map((radius, term) => ({
    radius,
    line: element(svg, "path", { fill: "none", stroke: COLOURS[term], "stroke-width": 4 }),
    tip: element(svg, "path", { fill: COLOURS[term], d: "M0-7 11 0 0 7Z" }),
  }));
  element(live, "p", { class: "live-told" }, "★ mean key   ◆ hard key   ● query; the arrows are pulls.");
  const update = bars(live, "Loss of the query, as an image of the cluster", data.terms);
  const told = element(live, "p", { class: "live-told" });
  element(live, "p", { class: "live-head" }, "Both losses, wherever the query is");
  const line = curves(live, 2, ["query at −70°", "70°"], "Both losses against the place of the query");

  const places = {};
  const draw = () => {
    if (Object.keys(places).length < 3) return;
    const all = data.values[places.temperature][places.spread];
    const [losses, forces] = all, q = places.query;
    const degrees = data.degrees[q], high = Math.max(...losses.flat());
    data.images[places.spread].forEach((place, i) => move(images[i], place));
    move(keys[0], 0);
    move(keys[1], data.hard[places.spread]);
    move(query, degrees);
    pulls.forEach(({ radius, line: path, tip }, term) => {
      const force = forces[term][q], visible = Math.abs(force) > 0.05 ? 1 : 0;
      const end = degrees + Math.sign(force) * (3 + (45 * Math.abs(force)) / data.strongest[places.temperature]);
      set(path, { d: arc(degrees, end, radius), opacity: visible });
      set(tip, {
        transform: `translate(${at(end, radius)})rotate(${end + (force < 0 ? 180 : 0)})`,
        opacity: visible,
      });
    });
    update(losses.map((values) => [values[q] / high, values[q].toFixed(2)]));
    told.textContent = "Pull of " + data.terms.map((term, i) => {
      const force = forces[i][q], way = force > 0 ? "right" : "left";
      return `${term}: ${Math.abs(force).toFixed(1)}${Math.abs(force) < 0.05 ? "" : ` to the ${way}`}`;
    }).join("; ");
    line(losses.map((values) => values.map((value) => value / high)), q);
    say(data.terms.map((term, i) => `${term} ${losses[i][q].toFixed(2)}`).join(", "));
  };
  for (const name of ["query", "spread", "temperature"]) {
    slider(controls, data[name], (place) => { places[name] = place; draw(); });
  }
});
