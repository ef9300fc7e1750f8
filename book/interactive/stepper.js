// Pivots refine a cluster one after the other.
begin("stepper", (live, data, say) => {
  const state = { example: 0, rule: 0, step: 0, people: false };
  const controls = element(live, "div", {});
  const steps = element(live, "div", {});
  const back = button(steps, "◀ Back", () => go(state.step - 1));
  const next = button(steps, "Next pivot ▶", () => go(state.step + 1));
  const toggle = button(steps, "Show who it is", () => { state.people = !state.people; draw(); });
  toggle.classList.add("live-toggle");
  const told = element(live, "p", { class: "live-told stepper-told" });
  const row = element(live, "div", { class: "live-row stepper-row" });
  const update = bars(live, "", ["pair precision", "pair recall"]);

  const shown = () => data.cases[state.example];
  const all = () => shown().steps[state.rule];
  function go(step) {
    state.step = Math.max(0, Math.min(all().length - 1, step));
    draw();
  }

  function say_step(step, number) {
    const size = shown().people.length, left = size - step.gone.length;
    if (number === 0) return `A global cluster of ${size} images. ${all().length - 1} of them refine it.`;
    const camera = shown().cameras[step.pivot];
    const contradicted = step.judges.length - step.same.length;
    return `Pivot ${number} of ${all().length - 1}: camera ${camera} has ${step.judges.length} images here; ` +
      `the pivot's local cluster holds ${step.same.length}, the other ${contradicted} go. ${left} of ${size} are left.`;
  }

  function draw() {
    const one = shown(), step = all()[state.step];
    const has = (list, place) => (list || []).includes(place);
    row.textContent = "";
    one.people.forEach((person, place) => {
      const gone = has(step.gone, place);
      const kind = place === step.pivot ? "pivot"
        : gone ? "gone"
          : has(step.same, place) ? "stays" : "free";
      const words = { pivot: "pivot", gone: "✗ gone", stays: "✓ stays", free: "" }[kind];
      const cell = element(row, "div", { class: `stepper-cell stepper-${kind}` });
      const name = `camera ${one.cameras[place]}, local cluster ${one.local[place]}`;
      thumb(cell, one.first + place, state.people ? `${name}, person ${person}` : name);
      element(cell, "span", {}, `cam ${one.cameras[place]} ${one.local[place]}`);
      if (state.people) element(cell, "span", { class: "stepper-person" }, `id ${person}`);
      element(cell, "span", {}, words);
    });
    const text = (share) => (share === null ? "–" : share.toFixed(2));
    update([step.precision, step.recall].map((share) => [share, text(share)]));
    back.disabled = state.step === 0;
    next.disabled = state.step === all().length - 1;
    set(toggle, { "aria-pressed": state.people });
    told.textContent = say_step(step, state.step);
    say(told.textContent);
  }

  choice(controls, { label: "Cluster", name: "example", values: data.names, start: 0 },
    (place) => { state.example = place; go(0); });
  choice(controls, { label: "Pivots", name: "rule", values: data.rules, start: 0 },
    (place) => { state.rule = place; go(0); });
});
