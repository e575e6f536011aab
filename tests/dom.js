"use strict";
// As much of a browser's document as the HTML report's script touches. Markup cannot be assigned.
class Element {
  constructor(tag) {
    Object.assign(this, { tag, className: "", hidden: false, open: false, parent: null });
    Object.assign(this, { children: [], words: "", listeners: {}, chosen: null });
  }
  get textContent() {
    return this.words + this.children.map((child) => child.textContent).join("");
  }
  set textContent(text) {
    this.children = [];
    this.words = String(text);
  }
  set innerHTML(_) {
    throw new Error("markup");
  }
  set outerHTML(_) {
    throw new Error("markup");
  }
  get value() {
    if (this.chosen !== null) return this.chosen;
    return this.tag === "select" ? (this.children[0]?.value ?? "") : "";
  }
  set value(text) {
    const known = this.tag !== "select" || this.children.some((option) => option.value === text);
    this.chosen = known ? String(text) : "";
  }
  append(...made) {
    for (const one of made) {
      if (!(one instanceof Element)) throw new TypeError("no element");
      one.parent = this;
      this.children.push(one);
    }
  }
  replaceChildren(...made) {
    this.textContent = "";
    this.append(...made);
  }
  addEventListener(kind, listener) {
    (this.listeners[kind] ??= []).push(listener);
  }
  dispatch(kind, target = this) { // events bubble
    for (const listener of this.listeners[kind] ?? []) listener({ target, preventDefault() {} });
    if (kind !== "toggle") this.parent?.dispatch(kind, target);
  }
  click() {
    this.dispatch("click");
    if (this.tag !== "summary") return;
    this.parent.open = !this.parent.open;
    this.parent.dispatch("toggle");
  }
}
const ids = new Map();
function grown([tag, attributes, words, children]) {
  const made = new Element(tag);
  made.textContent = words;
  if (attributes.class) made.className = attributes.class;
  if (attributes.value !== undefined) made.value = attributes.value;
  if (attributes.id) ids.set(attributes.id, made);
  made.append(...children.map(grown));
  return made;
}
globalThis.window = globalThis;
globalThis.document = { createElement: (tag) => new Element(tag), getElementById: (id) => ids.get(id) };
const waiting = new Map();
globalThis.setTimeout = (work) => waiting.set(waiting.size + 1, work).size;
globalThis.clearTimeout = (number) => waiting.set(number, () => {});

// What a test does: as a person sees it, and clicks.
const shown = (one) => [one.tag, one.className, one.words, one.open ? 1 : 0, one.children.map(shown)];
const found = (one, path) => path.reduce((at, index) => at.children[index], one);
function choose(id, value) {
  ids.get(id).value = value;
  ids.get(id).dispatch("change");
}
function type(text) {
  ids.get("search").value = text; // and stay there: "change" comes when one leaves
  ids.get("search").dispatch("input");
  for (const work of waiting.values()) work();
  waiting.clear();
}
