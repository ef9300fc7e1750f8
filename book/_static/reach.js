// What is wider than a page.
//
// On a telephone a picture keeps the size at which its labels can be read, and scrolls
// inside the page. Whatever scrolls sideways can be reached and moved by the keyboard.
(function () {
  "use strict";
  // Of a picture's own size: 8.5 points at 100 dots per inch are 6.5 pixels then.
  const LEAST = 0.55;
  const FITS = 660; // up to this width a picture is shown at about that size anyway
  const PICTURES = "article .cell_output img, article figure img";
  const NOT = ".diagram, .live"; // these have a narrow form
  const FORMULAS = "article mjx-container:not([display])"; // inside a line
  const WIDE =
    "article .wide, article table, article mjx-container[display='true'], [data-reached]";

  function reach() {
    for (const formula of document.querySelectorAll(FORMULAS)) {
      if (formula.closest("table")) continue; // which scrolls itself
      const line = formula.closest("p, li, dt, dd, div");
      formula.classList.toggle("wide", formula.scrollWidth > line.clientWidth + 1);
    }
    for (const box of document.querySelectorAll(WIDE)) {
      const mine = box.dataset.reached === "yes";
      if (box.scrollWidth > box.clientWidth + 1) {
        if (box.hasAttribute("tabindex") && !mine) continue;
        box.tabIndex = 0;
        box.dataset.reached = "yes";
      } else if (mine) {
        box.removeAttribute("tabindex");
        delete box.dataset.reached;
      }
    }
  }

  function widen(image) {
    if (image.naturalWidth <= FITS) return;
    const box = document.createElement("div");
    box.className = "wide";
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "Picture");
    image.replaceWith(box);
    box.append(image);
    image.style.minWidth = `${Math.round(LEAST * image.naturalWidth)}px`;
    image.style.height = "auto";
    reach();
  }

  for (const image of document.querySelectorAll(PICTURES)) {
    // A width is given to a picture that was drawn finer than it is shown.
    if (image.closest(NOT) || image.style.width) continue;
    if (image.complete && image.naturalWidth) widen(image);
    else image.addEventListener("load", () => widen(image), { once: true });
  }
  reach();
  window.addEventListener("load", () => {
    reach();
    // Mathematics gets its width later.
    window.MathJax?.startup?.promise?.then(reach);
  });
  window.addEventListener("resize", reach);
})();
