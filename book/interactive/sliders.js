// A figure whose numbers were computed before, for every setting of its sliders.
function shown(value, measure) {
  if (value === null) return "–";
  return value.toFixed(measure.digits) + (measure.unit ? "\u202f" + measure.unit : "");
}

begin("sliders", (live, data, say) => {
  const places = data.controls.map((control) => control.start);
  const controls = element(live, "div", {});
  const updates = data.measures.map((measure, at) => {
    const update = bars(live, measure.label, data.categories);
    return (values) => update(values.map((row) => [row[at] / measure.max, shown(row[at], measure)]));
  });
  data.controls.forEach((control, number) => slider(controls, control, (place) => {
    places[number] = place;
    // One row for each category, one entry for each measure.
    const values = places.reduce((inside, at) => inside[at], data.values);
    updates.forEach((update) => update(values));
    say(data.controls
      .map((other, at) => `${other.label}: ${other.values[places[at]]}`)
      .join("; "));
  }));
});
