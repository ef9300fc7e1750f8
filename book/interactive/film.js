// A film of a game: an encoder moves two cameras' images, step by step.
begin("film", (live, data, say) => {
  const state = {};
  const controls = element(live, "div", {});
  const steps = element(live, "div", {});
  let timer = null;
  const play = button(steps, "▶ Play", () => (timer ? stop() : start()));
  const SIDE = 320;
  const svg = element(live, "svg", {
    viewBox: `0 0 ${SIDE} ${SIDE}`, class: "live-small film-plane", role: "img",
    "aria-label": "Images of four people under two cameras, as points",
  });
  const width = element(live, "p", { class: "live-told" });
  element(live, "p", { class: "live-told" },
    "● left camera   ▲ right camera; letters are people, in the middle of their images.");
  const update = bars(live, "", ["people found", "camera found by the game's classifier", "camera found by a fresh probe"]);
  const line = curves(live, 3, ["step 0", `step ${data.steps[data.steps.length - 1]}`],
    "What is found, against the step");

  function draw() {
    if (Object.keys(state).length < 3) return;
    const { points, people, cameras } = data.toys[state.toy];
    const { maps, found } = data.films[state.toy][state.strength];
    // The encoder is a matrix and a shift for each camera.
    const moved = points.map(([x, y], i) => {
      const [a, b, c, d, e, f] = maps[state.step][cameras[i]];
      return [a * x + b * y + e, c * x + d * y + f];
    });
    const reach = Math.max(...moved.flat().map(Math.abs), 1e-9);
    width.textContent = `Drawn to fill the picture, which is ${(2 * reach).toPrecision(2)} wide at this step.`;
    const at = ([x, y]) => [SIDE / 2 + (x / reach) * 148, SIDE / 2 - (y / reach) * 148];
    svg.textContent = "";
    moved.forEach((point, i) => {
      const camera = cameras[i];
      element(svg, "path", {
        d: camera ? "M0-5 5 4-5 4Z" : "M4 0A4 4 0 1 1-4 0A4 4 0 1 1 4 0Z",
        transform: `translate(${at(point)})`, fill: COLOURS[camera], opacity: 0.55,
      });
    });
    [...new Set(people)].forEach((person) => [0, 1].forEach((camera) => {
      const some = moved.filter((_, i) => people[i] === person && cameras[i] === camera);
      if (!some.length) return;
      const middle = [0, 1].map((axis) => some.reduce((sum, p) => sum + p[axis], 0) / some.length);
      const [x, y] = at(middle);
      element(svg, "text", { x, y: y + 6, "text-anchor": "middle", class: "film-name" }, "ABCD"[person]);
    }));
    update(found[state.step].map((share) => [share, `${Math.round(100 * share)}\u202f%`]));
    line([0, 1, 2].map((which) => found.map((one) => one[which])), state.step);
    if (!timer) say(`Step ${data.steps[state.step]}: people ${Math.round(100 * found[state.step][0])} percent`);
  }

  function start() {
    if (state.step === data.steps.length - 1) move(0);
    timer = setInterval(() => {
      if (state.step === data.steps.length - 1) stop();
      else move(state.step + 1);
    }, 150);
    play.textContent = "■ Stop";
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶ Play";
  }

  choice(controls, { label: "Who passes", name: "toy", values: data.names, start: data.start[0] },
    (at) => { state.toy = at; draw(); });
  slider(controls, { label: "Strength λ", name: "strength", values: data.strengths, start: data.start[1] },
    (at) => { state.strength = at; draw(); });
  const move = slider(controls, { label: "Step", name: "step", values: data.steps.map(String), start: 0 },
    (at) => { state.step = at; draw(); });
});
