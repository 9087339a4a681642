// node sheet_dom.js PAGE STEPS: runs the script of a sheet's page on a small document of its own,
// does what STEPS say, a JSON list such as [["key", "1"], ["save"]], and prints what came of it.
"use strict";
const fs = require("node:fs");
const vm = require("node:vm");

const page = fs.readFileSync(process.argv[2], "utf8");
const steps = JSON.parse(process.argv[3]);
const script = page.match(/<script>([\s\S]*?)<\/script>/)[1];
const data = Object.fromEntries(
  [...page.match(/<div id="sheet"([^>]*)>/)[1].matchAll(/data-(\w+)="([^"]*)"/g)].map((m) => m.slice(1)));
const storage = new Map();
const saved = [];
let forbidden = false, scrolled = 0, clock = 1000, context;

class Element {
  constructor(dataset = {}, tagName = "DIV") {
    Object.assign(this, {dataset, tagName, listeners: {}, attributes: {}, hidden: false});
    Object.assign(this, {value: "", textContent: "", files: [], children: [], classes: new Set()});
    this.classList = {toggle: (name, on) => (on ? this.classes.add(name) : this.classes.delete(name))};
  }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  setAttribute(name, value) { this.attributes[name] = value; }
  querySelectorAll() { return this.children; }
  click() {
    if (this.download) saved.push({name: this.download, text: this.href});
    this.listeners.click?.({target: this});
  }
}

function open() {
  const ids = [...page.matchAll(/<(\w+) id="(\w+)"/g)];
  const elements = Object.fromEntries(
    ids.map(([, tag, id]) => [id, new Element(id === "sheet" ? data : {}, tag.toUpperCase())]));
  const sections = [...page.matchAll(/data-row="(\w+)"/g)].map(([, row]) => new Element({row}));
  for (const section of sections) {
    section.children = ["left", "right"].map((side) => new Element({side}));
  }
  const document = new Element();
  document.getElementById = (id) => elements[id];
  document.createElement = () => new Element({}, "A");
  document.querySelectorAll = () => sections;
  const refuse = () => { throw new Error("SecurityError"); };
  context = vm.createContext({
    document, elements, sections,
    localStorage: {
      getItem: (key) => (forbidden ? refuse() : storage.get(key) ?? null),
      setItem: (key, value) => (forbidden ? refuse() : storage.set(key, value)),
    },
    Blob: class { constructor(pieces) { this.text = pieces.join(""); } },
    URL: {createObjectURL: (blob) => blob.text, revokeObjectURL: () => {}},
    Date: {now: () => ++clock},
    addEventListener: () => {}, scrollTo: () => {}, setTimeout: () => {},
    get scrollY() { return scrolled; },
  });
  vm.runInContext(script, context);
}

const shown = () => context.sections.findIndex((section) => !section.hidden);
const pressed = () =>
  ["left", "right", "tie"].filter((id) => context.elements[id].attributes["aria-pressed"] === "true");
// A name such as Digit1 is the place of a key on a keyboard that writes something else there.
const key = (name, more = {}) => context.document.listeners.keydown(
  {key: /^(Digit|Key)/.test(name) ? "\u06f1" : name, code: name, preventDefault: () => {},
    target: new Element(), ...more});

const DO = {
  key: (name, more) => key(name, more),
  keyInComment: (name) => key(name, {target: new Element({}, "TEXTAREA")}),
  click: (id) => context.elements[id].click(),
  comment: (text) => context.elements.comment.listeners.input({target: {value: text}}),
  scroll: (to) => { scrolled = to; },
  reload: () => open(),
  forget: () => storage.clear(),
  forbid: () => { forbidden = true; },
  load: async (name, text) => {
    context.elements.picked.files = [{name, text: async () => text}];
    await context.elements.picked.listeners.change();
  },
};

(async () => {
  open();
  const seen = [];
  for (const [what, ...words] of steps) {
    await DO[what](...words);
    seen.push({
      shown: shown(), pressed: pressed(), said: context.elements.said.textContent,
      count: context.elements.count.textContent, comment: context.elements.comment.value,
    });
  }
  process.stdout.write(JSON.stringify({saved, seen, hidden: context.elements.controls.hidden}));
})();
