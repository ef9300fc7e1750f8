// Makes everything as wide as the page at most, and lists what is broken.
() => {
  const SMALLEST = 5.5; // points
  const SHORT = 250; // pixels: code that is kept on one page
  const FIGURES = 0.82;
  const points = (element) => parseFloat(getComputedStyle(element).fontSize) * 0.75;
  const problems = [];

  // Tables and mathematics get smaller until they fit; then words of tables may break.
  function shrink(element, width) {
    let size = points(element);
    while (width() > 1 && size > SMALLEST) {
      size -= 0.25;
      element.style.fontSize = `${size}pt`;
    }
    return width() <= 1;
  }
  const parts = /([._/:]+)/;
  for (const code of document.querySelectorAll("td code, td a")) {
    const walker = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    for (const text of texts) {
      // Names may break behind their dots and lines.
      const pieces = text.data.split(parts).flatMap((piece) =>
        parts.test(piece) ? [piece, document.createElement("wbr")] : [piece]);
      text.replaceWith(...pieces);
    }
  }
  for (const table of document.querySelectorAll("table")) {
    const room = () => table.parentElement.clientWidth;
    const over = () => table.getBoundingClientRect().width - room();
    if (!shrink(table, over)) {
      table.style.overflowWrap = "anywhere";
      table.style.fontSize = "";
      if (!shrink(table, over)) problems.push(`too wide: ${table.textContent.slice(0, 60)}`);
    }
  }
  for (const block of document.querySelectorAll("div.math")) {
    const math = block.querySelector("mjx-container");
    if (math) shrink(math, () => block.scrollWidth - block.clientWidth);
  }
  // Lines of code and of outputs are wrapped only if they cannot be shown in small print.
  for (const code of document.querySelectorAll("pre")) {
    if (!shrink(code, () => code.scrollWidth - code.clientWidth)) {
      code.style.fontSize = "";
      code.style.whiteSpace = "pre-wrap";
    }
  }
  for (const code of document.querySelectorAll("pre")) {
    if (code.clientHeight < SHORT) code.classList.add("short");
  }
  // Letters in figures are as large as the text on a screen; smaller ones do on paper.
  for (const picture of document.images) {
    if (!picture.style.width) picture.style.width = `${FIGURES * picture.naturalWidth}px`;
    if (!picture.naturalWidth) problems.push(`no picture: ${picture.src}`);
  }
  for (const error of document.querySelectorAll("mjx-merror")) {
    problems.push(`bad mathematics: ${error.textContent}`);
  }
  for (const math of document.querySelectorAll(".math")) {
    if (!math.querySelector("mjx-container")) problems.push(`not typeset: ${math.textContent}`);
  }
  const width = document.documentElement.clientWidth;
  for (const element of document.querySelectorAll("body *")) {
    const { right, height } = element.getBoundingClientRect();
    if (height && right > document.body.getBoundingClientRect().right + 1 && !element.closest("mjx-container, svg")) {
      problems.push(`beyond the margin: ${element.outerHTML.slice(0, 120)}`);
    }
  }
  return problems;
}
