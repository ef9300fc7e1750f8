// Ticks for the exercises, kept in the storage of the browser.
//
// Nothing is asked of a network, so it works from a file. Without JavaScript nothing is
// added to a page, and where storage is blocked the ticks last as long as the page.
(function () {
  "use strict";
  const KEY = "reidlib-exercises";
  let ticked = new Set();
  let kept = true;

  function read() {
    if (!kept) return;
    try {
      const stored = JSON.parse(localStorage.getItem(KEY));
      ticked = new Set(Array.isArray(stored) ? stored : []);
    } catch {
      // Blocked, or not ours: what this page knows stays.
    }
  }

  function write() {
    try {
      localStorage.setItem(KEY, JSON.stringify([...ticked]));
    } catch {
      // Blocked or full: from now on this page alone knows.
      kept = false;
    }
  }

  function element(name, kind, text) {
    const made = document.createElement(name);
    made.className = kind;
    made.textContent = text;
    return made;
  }

  const exercises = [...document.querySelectorAll("div.exercise[id]")];
  const boxes = exercises.map((exercise) => {
    const box = document.createElement("input");
    box.type = "checkbox";
    const label = element("label", "exercise-tick", "done");
    label.prepend(box);
    exercise.querySelector(".admonition-title").append(label);
    box.addEventListener("change", () => {
      read(); // another page may have changed them
      if (box.checked) ticked.add(exercise.id);
      else ticked.delete(exercise.id);
      write();
      show();
    });
    return box;
  });

  const head = document.querySelector("#exercises > h2");
  const count = exercises.length && head ? element("p", "exercise-count", "") : null;
  if (count) head.after(count);
  const total = document.querySelector(".exercise-total");

  function told(place, labels) {
    const done = labels.filter((label) => ticked.has(label)).length;
    place.textContent = `${done} of ${labels.length} exercises are done.`;
    place.hidden = false;
  }

  function show() {
    exercises.forEach((exercise, number) => {
      boxes[number].checked = ticked.has(exercise.id);
    });
    if (count) told(count, exercises.map((exercise) => exercise.id));
    if (total) told(total, total.dataset.exercises.split(" "));
  }

  function refresh() {
    read();
    show();
  }

  refresh();
  window.addEventListener("storage", refresh); // another tab
  window.addEventListener("pageshow", refresh); // back from another page
})();
