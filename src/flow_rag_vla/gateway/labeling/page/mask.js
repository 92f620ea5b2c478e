// A mask that is being drawn: a canvas of the picture's size, opaque where the thing is. Strokes can be taken back.

const MOST_STEPS = 40;
const OPAQUE = 128; // rims are drawn soft: a pixel is inside from here on

export class MaskEditor {
  // mask: a bitmap, white on black, or null to begin with nothing.
  constructor(width, height, mask) {
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.tint = new OffscreenCanvas(width, height);
    this.context.strokeStyle = this.context.fillStyle = "#fff";
    this.context.lineCap = this.context.lineJoin = "round";
    if (mask) this.context.drawImage(mask, 0, 0, width, height);
    this.sharpen((pixels, at) => (mask ? pixels[at] : 0));
    this.tool = "brush"; // or "polygon"
    this.erasing = false;
    this.radius = Math.max(2, Math.round(Math.min(width, height) / 40)); // pixels of the picture
    this.cursor = [width / 2, height / 2];
    this.points = []; // corners of the polygon so far
    this.before = []; // masks to go back to, and forth
    this.after = [];
    this.stroke = null; // where the stroke that is going on has come to
  }

  // Every pixel inside or outside, by a value of 0 to 255 for the pixel at a place of the bytes.
  sharpen(value = (pixels, at) => pixels[at + 3]) {
    const { width, height } = this.canvas;
    const image = this.context.getImageData(0, 0, width, height);
    for (let at = 0; at < image.data.length; at += 4) {
      image.data.set([255, 255, 255, value(image.data, at) >= OPAQUE ? 255 : 0], at);
    }
    this.context.putImageData(image, 0, 0);
  }

  alpha() {
    const { data } = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    const kept = new Uint8Array(data.length / 4);
    for (let at = 0; at < kept.length; at += 1) kept[at] = data[4 * at + 3];
    return kept;
  }

  restore(kept) {
    const image = this.context.createImageData(this.canvas.width, this.canvas.height);
    for (let at = 0; at < kept.length; at += 1) image.data.set([255, 255, 255, kept[at]], 4 * at);
    this.context.putImageData(image, 0, 0);
  }

  remember() {
    this.before.push(this.alpha());
    if (this.before.length > MOST_STEPS) this.before.shift();
    this.after = [];
  }

  // A stroke of the brush: begin, to (any number of times), end. erase: for this stroke only.
  begin(point, erase = this.erasing) {
    this.remember();
    this.context.globalCompositeOperation = erase ? "destination-out" : "source-over";
    this.stroke = point;
    this.to(point);
  }

  to(point) {
    if (!this.stroke) return;
    this.context.lineWidth = 2 * this.radius;
    this.context.beginPath();
    this.context.moveTo(...this.stroke);
    this.context.lineTo(...point);
    this.context.stroke();
    this.stroke = point;
  }

  end() {
    if (!this.stroke) return;
    this.stroke = null;
    this.context.globalCompositeOperation = "source-over";
    this.sharpen();
  }

  close() {
    if (this.points.length < 3) return false;
    this.remember();
    this.context.globalCompositeOperation = this.erasing ? "destination-out" : "source-over";
    this.context.beginPath();
    for (const point of this.points) this.context.lineTo(...point);
    this.context.fill("evenodd");
    this.context.globalCompositeOperation = "source-over";
    this.sharpen();
    this.points = [];
    return true;
  }

  clear() {
    this.remember();
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.points = [];
  }

  undo() {
    if (this.points.length) this.points.pop();
    else if (this.before.length) {
      this.after.push(this.alpha());
      this.restore(this.before.pop());
    }
  }

  redo() {
    if (!this.after.length) return;
    this.before.push(this.alpha());
    this.restore(this.after.pop());
  }

  moved(x, y) {
    const { width, height } = this.canvas;
    this.cursor = [Math.min(Math.max(this.cursor[0] + x, 0), width), Math.min(Math.max(this.cursor[1] + y, 0), height)];
  }

  get empty() {
    return !this.alpha().some((value) => value);
  }

  // In a colour, clear where nothing is: what is laid over the picture.
  tinted(colour) {
    const context = this.tint.getContext("2d");
    context.globalCompositeOperation = "copy";
    context.drawImage(this.canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = colour;
    context.fillRect(0, 0, this.tint.width, this.tint.height);
    return this.tint;
  }

  // Base64 of a PNG, white on black.
  async png() {
    const whole = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    const context = whole.getContext("2d");
    context.fillRect(0, 0, whole.width, whole.height);
    context.drawImage(this.canvas, 0, 0);
    const bytes = new Uint8Array(await (await whole.convertToBlob({ type: "image/png" })).arrayBuffer());
    let text = "";
    for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
    return btoa(text);
  }
}
