// Lists what a reader of a page cannot read well: text whose contrast with its
// background is below WCAG's 4.5, and pictures that let the background through.
() => {
  const parse = (text) => {
    const [r, g, b, alpha = 1] = text.match(/[\d.]+/g).map(Number);
    return text.startsWith("color(srgb")
      ? [255 * r, 255 * g, 255 * b, alpha]
      : [r, g, b, alpha];
  };
  const over = (front, back) => [
    ...[0, 1, 2].map((i) => front[i] * front[3] + back[i] * (1 - front[3])),
    1,
  ];
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((value) => {
      const v = value / 255;
      return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const known = new Map([[null, [255, 255, 255, 1]]]);
  const background = (element) => {
    if (!known.has(element)) {
      const own = parse(getComputedStyle(element).backgroundColor);
      const opaque = own[3] === 1;
      known.set(element, opaque ? own : over(own, background(element.parentElement)));
    }
    return known.get(element);
  };

  // Elements that hold text of their own, in their order; formulas hold thousands that
  // are not looked at.
  const speaking = new Set();
  const within = NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT;
  const skip = (node) =>
    node.nodeType === Node.ELEMENT_NODE
      ? node.matches("svg, mjx-container, script, style")
        ? NodeFilter.FILTER_REJECT
        : NodeFilter.FILTER_SKIP
      : NodeFilter.FILTER_ACCEPT;
  for (const article of document.querySelectorAll("article")) {
    const walker = document.createTreeWalker(article, within, skip);
    while (walker.nextNode()) {
      const text = walker.currentNode;
      if (text.parentElement !== article && text.data.trim()) {
        speaking.add(text.parentElement);
      }
    }
  }

  const problems = new Map();
  for (const element of speaking) {
    const style = getComputedStyle(element);
    if (!element.getClientRects().length || style.visibility === "hidden") continue;
    const back = background(element);
    const ink = over(parse(style.color), back);
    const [high, low] = [luminance(ink), luminance(back)].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    const name = `${element.tagName}.${element.className}`;
    if (contrast < 4.5 && !problems.has(name)) {
      const text = element.textContent.trim().slice(0, 40);
      problems.set(name, `contrast ${contrast.toFixed(1)}: ${name} "${text}"`);
    }
  }
  for (const image of document.querySelectorAll("article img")) {
    if (!image.naturalWidth || !image.getClientRects().length) continue;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 32;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, 32, 32);
    const pixels = context.getImageData(0, 0, 32, 32).data;
    if (pixels.some((value, index) => index % 4 === 3 && value < 250)) {
      problems.set(image.src, `transparent: ${image.src}`);
    }
  }
  return [...problems.values()];
};
