// Filters of the scoreboard. Without this script the page shows every item.
document.querySelectorAll(".board").forEach((board) => {
  const rows = [...board.querySelectorAll("tr[data-paper]")];
  const words = new Map(
    board.dataset.signs.split("|").map((text) => [text.split(" ")[0], text]),
  );
  const form = document.createElement("form");
  const chosen = {};
  const add = (name, control) => {
    const label = document.createElement("label");
    label.append(name, control);
    form.append(label);
    control.addEventListener("input", show);
    return control;
  };
  const choose = (name, key, values) => {
    const select = document.createElement("select");
    select.append(new Option("all", ""));
    for (const value of values) {
      const count = rows.filter((row) => row.dataset[key].split(" ").includes(value));
      if (count.length) {
        select.append(new Option(`${words.get(value) || value} (${count.length})`, value));
      }
    }
    chosen[key] = add(name, select);
  };
  const every = (key) => [...new Set(rows.map((row) => row.dataset[key]))];
  choose("paper", "paper", every("paper"));
  choose("kind", "kind", every("kind"));
  choose("verdict", "signs", words.keys());
  const search = document.createElement("input");
  search.type = "search";
  add("text", search);
  const reset = document.createElement("button");
  reset.type = "reset";
  reset.textContent = "show all";
  const told = document.createElement("output");
  told.setAttribute("aria-live", "polite");
  form.append(reset, told);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(show));

  function show() {
    const text = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !(
        Object.entries(chosen).every(
          ([key, { value }]) => !value || row.dataset[key].split(" ").includes(value),
        ) && row.textContent.toLowerCase().includes(text)
      );
      shown += !row.hidden;
    }
    for (const body of board.querySelectorAll("tbody")) {
      body.hidden = !body.querySelector("tr[data-paper]:not([hidden])");
    }
    told.textContent = `${shown} of ${rows.length} items`;
  }

  board.prepend(form);
  show();
});
