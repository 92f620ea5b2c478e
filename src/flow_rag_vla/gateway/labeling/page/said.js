// What models said of the object that is shown: a row each, the first of them what it was registered as. A row is taken
// with a click or a key as the object's class, or with its box too; what a further model said can be taken off.

import { make } from "./elements.js";

export class Said {
  // act: take(label, withBox) and takeOff(label), called for the object that is shown.
  constructor(section, view, { take, takeOff }) {
    this.section = section;
    this.list = section.querySelector("div");
    this.view = view;
    this.act = { take, takeOff };
  }

  clear() {
    this.section.hidden = true;
    this.list.replaceChildren();
    this.view.hint(null);
  }

  // person: {name, role, may_review}; nothing is shown where only one model has spoken.
  show({ first, items }, item, person) {
    this.clear();
    if (!items.length) return;
    this.section.hidden = false;
    this.list.replaceChildren(...[first, ...items].map((label, at) => this.row(label, at === 0, item, person)));
  }

  row(label, first, item, person) {
    const agrees = label.category === item.category;
    const may = person.role !== "viewer";
    const button = (className, textContent, enabled, title, act) => {
      const made = make("button", { type: "button", className, textContent, disabled: !enabled, title });
      made.addEventListener("click", act);
      return made;
    };
    const parts = [
      button("word", `${label.category} ${label.confidence.toFixed(2)}`, may && (!agrees || person.may_review),
        agrees ? "accept: that is what it is called" : `call it ${label.category}`, () => this.act.take(label, false)),
      button("box", "box", may, "take its box too; the mask of the old box goes", () => this.act.take(label, true)),
    ];
    if (!first) {
      const own = person.may_review || label.who === person.name;
      parts.push(button("off", "\u00d7", may && own, "take it off this object", () => this.act.takeOff(label)));
    }
    const by = `${first ? "first: " : ""}${label.model} ${label.revision.slice(0, 12)}`.trim();
    parts.push(make("span", { className: "origin" }, `${by}, ${label.score_kind.replace("_", " ")}`));
    const asked = [label.prompt && `asked for ${label.prompt}`, `threshold ${label.threshold}`, `run by ${label.who}`];
    const row = make("div", { className: agrees ? "said agrees" : "said", title: asked.filter(Boolean).join(", ") }, ...parts);
    const shown = { box: label.bbox, label: `${label.model}: ${label.category}` };
    for (const kind of ["pointerenter", "focusin"]) row.addEventListener(kind, () => this.view.hint(shown));
    for (const kind of ["pointerleave", "focusout"]) row.addEventListener(kind, () => this.view.hint(null));
    return row;
  }

  // The row after the one that has the focus; Enter then takes it.
  choose() {
    const rows = [...this.list.querySelectorAll(".word:not(:disabled)")];
    rows[(rows.indexOf(document.activeElement) + 1) % rows.length]?.focus();
  }

  // Keys on a row that has the focus; whether this one meant something.
  key(event) {
    const row = document.activeElement?.closest?.(".said");
    if (!row) return false;
    const wanted = event.key === "Delete" ? ".off" : event.key === "Enter" && event.shiftKey ? ".box" : "";
    const button = wanted ? row.querySelector(`${wanted}:not(:disabled)`) : null;
    button?.click();
    return Boolean(button);
  }
}
