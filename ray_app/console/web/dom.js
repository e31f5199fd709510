// Builds and updates elements. Whatever the service says becomes a text node or an attribute, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element; properties that are null, undefined or false are left out. */
export function h(tag, properties, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** Make an SVG element. */
export function s(tag, properties, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

/** Give a node these children; nodes that are there already are changed, so that focus and selection stay. */
export function show(node, ...children) {
  const fresh = node.cloneNode(false);
  fresh.append(...nodes(children));
  adopt(node, fresh);
}

/** Give shares their widths: these come from data, and the page's policy lets no style be written into markup. */
export function sized(within) {
  for (const each of within.querySelectorAll("[data-grow]")) each.style.flexGrow = each.dataset.grow;
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
    // The state of a disclosure is its reader's, and styles are given by `sized`.
    if (!fresh.hasAttribute(name) && name !== "open" && name !== "style") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

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
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}
