// Drawing the mask of the object that is shown: tools, keys, saving. While it goes on, the keys of the bench rest.

import { MaskEditor } from "./mask.js";

const STEP = 1; // pixels of the picture an arrow key moves the cursor
const LEAP = 10; // with shift
const element = (id) => document.getElementById(id);

export class Drawing {
  // save: called with base64 of the PNG; say: shows a line of text, as a problem or not.
  constructor(view, { save, say }) {
    Object.assign(this, { view, save, say });
    this.held = false; // the space bar is the pen
    this.keys = {
      b: () => this.take("brush"),
      p: () => this.take("polygon"),
      e: () => { this.editor.erasing = !this.editor.erasing; },
      "[": () => { this.editor.radius = Math.max(1, Math.round(this.editor.radius / 1.3)); },
      "]": () => { this.editor.radius = Math.min(200, Math.round(this.editor.radius * 1.3) + 1); },
      z: () => this.editor.undo(),
      y: () => this.editor.redo(),
      c: () => this.editor.clear(),
      f: () => { this.view.close = !this.view.close; },
      backspace: () => this.editor.undo(),
      enter: () => this.enter(),
      escape: () => this.escape(),
      " ": () => this.pen(),
      arrowleft: (far) => this.step(-far, 0),
      arrowright: (far) => this.step(far, 0),
      arrowup: (far) => this.step(0, -far),
      arrowdown: (far) => this.step(0, far),
    };
    for (const button of element("drawing").querySelectorAll("button")) {
      button.addEventListener("click", () => {
        button.blur(); // or the space bar would press it again
        this.press(button.dataset.key);
      });
    }
  }

  get editor() {
    return this.view.editor;
  }

  start(width, height, mask, box) {
    this.view.edit(new MaskEditor(width, height, mask), () => this.shown());
    this.editor.cursor = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
    element("drawing").hidden = false;
    element("judging").hidden = element("naming").hidden = true;
    this.shown();
  }

  leave() {
    if (!this.editor) return;
    this.held = false;
    this.view.edit(null);
    element("drawing").hidden = true;
    element("judging").hidden = element("naming").hidden = false;
  }

  // Whether the key was one of drawing.
  key(event) {
    const name = event.key.toLowerCase();
    if (!this.keys[name]) return false;
    // Only the moving keys, the size and taking back go on while a key is held.
    if (event.repeat && !/^(arrow.*|[zy[\]]|backspace)$/.test(name)) return true;
    this.press(name, event.shiftKey ? LEAP : STEP);
    return true;
  }

  press(name, far = STEP) {
    if (!this.editor) return;
    this.keys[name](far);
    if (this.editor) this.shown();
  }

  released(event) {
    if (event.key !== " " || !this.held || !this.editor) return;
    this.held = false;
    this.editor.end();
    this.shown();
  }

  take(tool) {
    this.editor.tool = tool;
    this.editor.points = [];
  }

  pen() {
    const { editor } = this;
    if (editor.tool === "polygon") editor.points.push([...editor.cursor]);
    else if (!this.held) {
      this.held = true;
      editor.begin([...editor.cursor]);
    }
  }

  step(x, y) {
    this.editor.moved(x, y);
    if (this.held) this.editor.to([...this.editor.cursor]);
  }

  enter() {
    const { editor } = this;
    if (editor.points.length) {
      if (!editor.close()) this.say("a polygon needs three corners", true);
    } else if (editor.empty) {
      this.say("nothing is drawn: draw, or leave with Esc", true);
    } else {
      editor.png().then((png) => this.save(png));
    }
  }

  escape() {
    if (this.editor.points.length) this.editor.points = [];
    else this.leave();
  }

  shown() {
    const { editor } = this;
    for (const button of element("drawing").querySelectorAll("button")) {
      const { key } = button.dataset;
      const on = { b: editor.tool === "brush", p: editor.tool === "polygon", e: editor.erasing }[key];
      if (on !== undefined) button.setAttribute("aria-pressed", String(on));
      if (key === "z") button.disabled = !editor.before.length && !editor.points.length;
      if (key === "y") button.disabled = !editor.after.length;
    }
    element("brush-size").textContent = `${2 * editor.radius} px`;
    this.view.draw();
  }
}
