// Makes everything as wide as the page at most, and lists what is broken.
() => {
  const SMALLEST = 5.5; // points
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
  for (const picture of document.images) {
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
