const id = name => document.getElementById(name);
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key === "style") element.style.cssText = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
};
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const mean = list => list.reduce((sum, x) => sum + x, 0) / Math.max(list.length, 1);
const percent = x => (100 * x).toFixed(x < 0.0995 ? 1 : 0) + " %";

// A canvas of the given size in CSS pixels, sharp on every screen.
function paper(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
function cells(context, rows, paint, [left, top], [width, height]) {
  rows.forEach((row, y) => row.forEach((x, column) => {
    context.fillStyle = paint(x, y, column);
    context.fillRect(left + column * width, top + y * height, Math.max(width - (width > 6 ? 1 : 0), 0.5),
      Math.max(height - (height > 6 ? 1 : 0), 0.5));
  }));
}
const shade = ink => weight => `rgba(${ink}, ${Math.max(0.03, Math.min(1, Math.sqrt(weight)))})`;
function signed(greatest) {
  const [plus, minus] = [colour("--ink"), colour("--minus")];
  return x => `rgba(${x < 0 ? minus : plus}, ${Math.min(1, Math.abs(x) / greatest)})`;
}
const greatestOf = rows => {
  const all = rows.flat().map(Math.abs).sort((a, b) => a - b);
  return all[Math.floor(all.length * 0.99)] || 1;
};
// Moves a choice by arrow keys.
function arrows(element, columns, get, set, count) {
  element.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = get() + step;
    if (next >= 0 && next < count()) set(next);
  });
}
// An element of SVG.
function drawing(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}
