// Making elements. Whatever a name or a value contains becomes text, never markup: there is no other way in here.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element. `props`: `on: {event: handler}`, `data: {name: value}`, and attributes; children are nodes or texts. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same in SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, { on = {}, data = {}, ...attributes }, children) {
  for (const [name, handler] of Object.entries(on)) element.addEventListener(name, handler);
  for (const [name, value] of Object.entries(data)) element.dataset[name] = value;
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined).map(asNode));
  return element;
}

const asNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));

/** Put `children` in the place of what `parent` holds. Focus within it is kept, by the id of what had it. */
export function show(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.id : "";
  parent.replaceChildren(...children.flat().map(asNode));
  if (focused) byId(focused)?.focus();
}

/** Rows of a table: `columns` are texts, `rows` elements. */
export function table(parent, columns, rows) {
  show(parent, h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col" }, column)))), h("tbody", {}, rows));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${(seconds / size).toFixed(1)} ${unit}`;
  }
  return `${Math.round(seconds)} s`;
}

export function size(bytes) {
  let left = bytes;
  for (const unit of ["bytes", "KiB", "MiB"]) {
    if (left < 1024) return unit === "bytes" ? `${left} bytes` : `${left.toFixed(1)} ${unit}`;
    left /= 1024;
  }
  return `${left.toFixed(1)} GiB`;
}

export const number = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));

/** Say how something went, for eyes and for screen readers. */
export function say(element, text, bad = false) {
  element.textContent = text;
  element.classList.toggle("error", bad);
}
