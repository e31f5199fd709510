// Builds and updates elements. Data of the service only becomes text nodes and attributes, never markup: no injection.

const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element; properties that are null, undefined or false are left out. */
export function h(tag, properties, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** Make an SVG element. */
export function s(tag, properties, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

/** Give a node these children, changing existing nodes in place, so that focus, selection and scroll position stay. */
export function show(node, ...children) {
  const fresh = node.cloneNode(false);
  fresh.append(...nodes(children));
  adopt(node, fresh);
}

/** Set the widths of bar segments from `data-grow`, by script: the page's security policy forbids style attributes. */
export function sized(within) {
  for (const segment of within.querySelectorAll("[data-grow]")) segment.style.flexGrow = segment.dataset.grow;
}

/** The element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else {
    attributes(old, fresh);
    adopt(old, fresh);
  }
}

function attributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    // Keep what is not from the data: `open` of <details> is set by the reader, `style` by `sized`.
    if (!fresh.hasAttribute(name) && name !== "open" && name !== "style") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

/** Make the children of `old` those of `fresh`: matched by data-key where they have one, else by position. */
function adopt(old, fresh) {
  const keyed = new Map([...old.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = child.dataset?.key;
    const twin = key ? keyed.get(key) : next?.dataset?.key ? null : next;
    if (!twin) {
      old.insertBefore(child, next);
      continue;
    }
    if (twin === next) next = twin.nextSibling;
    else old.insertBefore(twin, next);
    morph(twin, child);
  }
  while (next) {
    const surplus = next;
    next = next.nextSibling;
    surplus.remove();
  }
}
