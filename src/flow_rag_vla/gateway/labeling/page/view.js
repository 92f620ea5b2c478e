// The picture with its boxes and masks, and the box or the mask that is being drawn. Boxes are [left, top, right, bottom] in pixels.

const COLOURS = ["#4fa3ff", "#ffb454", "#6fdc8c", "#ff7eb6", "#be95ff", "#3ddbd9", "#ffe066", "#ff8389", "#a6c8ff", "#d4bbff"];
const SMALLEST = 3; // pixels of a side; less is a click

export function colourOf(categories, name) {
  const place = categories.indexOf(name);
  return COLOURS[(place < 0 ? categories.length : place) % COLOURS.length];
}

// A mask (white on black) as a coloured bitmap that is clear where it is black.
export async function tinted(mask, colour) {
  const canvas = new OffscreenCanvas(mask.width, mask.height);
  const context = canvas.getContext("2d");
  context.drawImage(mask, 0, 0);
  const pixels = context.getImageData(0, 0, mask.width, mask.height);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  for (let at = 0; at < pixels.data.length; at += 4) {
    const inside = pixels.data[at] > 127;
    pixels.data.set([red, green, blue, inside ? 255 : 0], at);
  }
  context.putImageData(pixels, 0, 0);
  return canvas.transferToImageBitmap();
}

export class View {
  constructor(canvas, onBox) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.shown = null; // {bitmap, objects: [{box, colour, label, current, mask}]}
    this.masks = true;
    this.close = false;
    this.drawn = null;
    this.hinted = null; // {box, label}: what a model said
    this.editor = null; // the mask that is being drawn
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", () => this.end(onBox));
    canvas.addEventListener("pointercancel", () => this.cancel());
    canvas.addEventListener("contextmenu", (event) => { if (this.editor) event.preventDefault(); });
  }

  // Draw a mask instead of boxes from now on, with changed() called after each stroke; null: boxes again.
  edit(editor, changed = () => {}) {
    this.editor = editor;
    this.changed = changed;
    this.cancel();
  }

  // Show a box beside the others; null: no longer.
  hint(hinted) {
    if (this.hinted === hinted) return;
    this.hinted = hinted;
    this.draw();
  }

  show(shown) {
    this.shown = shown;
    this.drawn = null;
    this.hinted = null;
    this.draw();
  }

  // Part of the picture that is seen: all of it, or the current box with as much again around it.
  seen() {
    const { bitmap, objects } = this.shown;
    const current = objects.find((item) => item.current);
    if (!this.close || !current) return [0, 0, bitmap.width, bitmap.height];
    const [left, top, right, bottom] = current.box;
    const margin = Math.max(right - left, bottom - top, 16);
    return [
      Math.max(0, left - margin), Math.max(0, top - margin),
      Math.min(bitmap.width, right + margin), Math.min(bitmap.height, bottom + margin),
    ];
  }

  // Canvas pixels = offset + scale * picture pixels.
  placing() {
    const [left, top, right, bottom] = this.seen();
    const { width, height } = this.canvas;
    const margin = 12 * devicePixelRatio;
    const scale = Math.min((width - 2 * margin) / (right - left), (height - 2 * margin) / (bottom - top));
    return { scale, x: (width - scale * (right + left)) / 2, y: (height - scale * (bottom + top)) / 2 };
  }

  draw() {
    const { canvas, context } = this;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * devicePixelRatio));
    if (!this.shown) return;
    const { bitmap, objects } = this.shown;
    const place = this.placing();
    context.save();
    const [left, top, right, bottom] = this.seen();
    context.beginPath();
    context.rect(place.x + left * place.scale, place.y + top * place.scale, (right - left) * place.scale, (bottom - top) * place.scale);
    context.clip();
    context.imageSmoothingEnabled = place.scale < 3;
    const at = [place.x, place.y, bitmap.width * place.scale, bitmap.height * place.scale];
    context.drawImage(bitmap, ...at);
    for (const item of this.masks ? objects : []) {
      if (!item.mask || (this.editor && item.current)) continue;
      context.globalAlpha = item.current ? 0.42 : 0.16;
      context.drawImage(item.mask, ...at);
    }
    const current = objects.find((item) => item.current);
    if (this.editor) {
      context.globalAlpha = 0.5;
      context.drawImage(this.editor.tinted(current?.colour ?? "#ffffff"), ...at);
    }
    context.globalAlpha = 1;
    for (const item of objects) if (!item.current) this.outline(place, item, 1.2, 0.75);
    context.restore();
    if (this.editor) this.tool(place);
    else if (this.drawn) this.outline(place, { box: this.drawn, colour: "#ffffff", label: "" }, 2, 1, [6, 4]);
    else if (current) this.outline(place, current, 2.6, 1);
    if (this.hinted) this.outline(place, { ...this.hinted, colour: "#ffffff" }, 2, 1, [3, 3]);
  }

  // The brush where it is, or the polygon so far.
  tool(place) {
    const { context, editor } = this;
    const on = ([x, y]) => [place.x + x * place.scale, place.y + y * place.scale];
    const [x, y] = on(editor.cursor);
    context.lineWidth = 1.6 * devicePixelRatio;
    context.strokeStyle = editor.erasing ? "#ff8389" : "#ffffff";
    context.beginPath();
    if (editor.tool === "brush") {
      context.arc(x, y, editor.radius * place.scale, 0, 2 * Math.PI);
    } else {
      const arm = 7 * devicePixelRatio;
      context.moveTo(x - arm, y);
      context.lineTo(x + arm, y);
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
      editor.points.map(on).forEach((point, at) => (at ? context.lineTo(...point) : context.moveTo(...point)));
      if (editor.points.length) context.lineTo(x, y);
    }
    context.stroke();
    context.fillStyle = context.strokeStyle;
    for (const [left, top] of editor.points.map(on)) {
      context.fillRect(left - 2.5 * devicePixelRatio, top - 2.5 * devicePixelRatio, 5 * devicePixelRatio, 5 * devicePixelRatio);
    }
  }

  outline(place, { box, colour, label }, width, alpha, dash = []) {
    const { context } = this;
    const [left, top, right, bottom] = box;
    const x = place.x + left * place.scale;
    const y = place.y + top * place.scale;
    context.globalAlpha = alpha;
    context.lineWidth = width * devicePixelRatio;
    context.strokeStyle = colour;
    context.setLineDash(dash.map((part) => part * devicePixelRatio));
    context.strokeRect(x, y, (right - left) * place.scale, (bottom - top) * place.scale);
    context.setLineDash([]);
    if (label) {
      context.font = `600 ${12 * devicePixelRatio}px system-ui, "DejaVu Sans", sans-serif`;
      const wide = context.measureText(label).width + 8 * devicePixelRatio;
      const high = 17 * devicePixelRatio;
      // Above the box, or inside it where the picture ends.
      const above = y - high >= Math.max(0, place.y) ? y - high : y;
      context.fillStyle = colour;
      context.fillRect(x - context.lineWidth / 2, above, wide, high);
      context.fillStyle = "#12161b";
      context.fillText(label, x + 3 * devicePixelRatio, above + 12.5 * devicePixelRatio);
    }
    context.globalAlpha = 1;
  }

  at(event) {
    const place = this.placing();
    const bounds = this.canvas.getBoundingClientRect();
    const { width, height } = this.shown.bitmap;
    const x = ((event.clientX - bounds.left) * devicePixelRatio - place.x) / place.scale;
    const y = ((event.clientY - bounds.top) * devicePixelRatio - place.y) / place.scale;
    return [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
  }

  begin(event) {
    if (this.editor) {
      if (event.button !== 0 && event.button !== 2) return;
      this.canvas.setPointerCapture(event.pointerId);
      this.editor.cursor = this.at(event);
      if (this.editor.tool === "polygon") this.editor.points.push(this.at(event));
      else this.editor.begin(this.at(event), this.editor.erasing || event.button === 2);
      this.changed();
      return;
    }
    if (event.button !== 0 || !this.shown?.objects.some((item) => item.current)) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.start = this.at(event);
  }

  move(event) {
    if (this.editor) {
      this.editor.cursor = this.at(event);
      this.editor.to(this.editor.cursor);
      this.draw();
      return;
    }
    if (!this.start) return;
    const [x, y] = this.at(event);
    const [startX, startY] = this.start;
    this.drawn = [Math.min(x, startX), Math.min(y, startY), Math.max(x, startX), Math.max(y, startY)];
    this.draw();
  }

  end(onBox) {
    if (this.editor) {
      this.editor.end();
      this.changed();
      return;
    }
    const box = this.drawn;
    this.start = null;
    if (!box) return;
    if (box[2] - box[0] >= SMALLEST && box[3] - box[1] >= SMALLEST) {
      onBox(box.map((value) => Math.round(value * 10) / 10));
    } else {
      this.cancel();
    }
  }

  cancel() {
    this.editor?.end();
    this.start = null;
    this.drawn = null;
    this.draw();
  }
}
