// Searching with a picture that somebody chose or pasted: what is registered and looks most like it.

import { json } from "./api.js";
import { element } from "./elements.js";

const HITS = 50;
const MOST_BYTES = 20 * 1024 * 1024; // what the server takes; a larger file would be sent in vain

export class Asking {
  // may: whether this person may; rests: whether something else has the page; among: the class and project to look among,
  // "" for all; found(items, name): called with what looks like it; say: shows a line of text, as a problem or not;
  // failed: told of a refusal.
  constructor({ may, rests, among, found, say, failed }) {
    Object.assign(this, { may, rests, among, found, say, failed });
    this.asked = 0; // grows with every picture: what comes late for an older one is dropped
    element("ask-button").addEventListener("click", () => this.choose());
    element("ask-file").addEventListener("change", (event) => {
      const [file] = event.target.files;
      event.target.value = ""; // the same file may be chosen again
      if (file) this.search(file);
    });
    element("asked-close").addEventListener("click", () => this.clear());
    document.addEventListener("paste", (event) => this.pasted(event));
  }

  choose() {
    if (this.allowed()) element("ask-file").click();
  }

  pasted(event) {
    if (element("bench").hidden || this.rests() || event.target.closest?.("input, select")) return;
    event.preventDefault();
    const [file] = event.clipboardData?.files ?? [];
    if (file) this.search(file);
    else this.say("what was pasted is no picture: copy a picture, or choose a file with P", true);
  }

  allowed() {
    const may = this.may();
    if (!may) this.say("searching with a picture runs the models, which a viewer may not: ask for the role labeller", true);
    return may;
  }

  async search(file) {
    if (!this.allowed()) return;
    const name = file.name || "the picture";
    if (file.size > MOST_BYTES) {
      this.say(`${name} has ${(file.size / 1048576).toFixed(1)} MiB, at most 20 are taken: send a smaller or more compressed picture`, true);
      return;
    }
    const ticket = ++this.asked;
    this.say(`looking for what looks like ${name} ...`);
    const form = new FormData();
    form.set("image", file);
    form.set("top_k", HITS);
    for (const [field, value] of Object.entries(this.among())) form.set(field, value);
    try {
      const { items } = await json("objects/search/image", { method: "POST", body: form });
      if (ticket !== this.asked) return;
      if (!items.length) {
        this.say(`nothing here looks like ${name}: no object has a vector, or none is of what is chosen above`, true);
        return;
      }
      this.clear();
      element("asked-picture").src = URL.createObjectURL(file);
      element("asked").hidden = false;
      this.say(`${items.length} that look most like ${name}`);
      this.found(items.map(({ similarity, object }) => ({ ...object, why: { similarity } })), name);
    } catch (error) {
      if (ticket !== this.asked) return;
      if (error.status === 401) this.failed(error);
      else this.say(`${name}: ${error.message}`, true);
    }
  }

  // What is still asked for is not waited for any more: a queue that somebody chose since then stays.
  forget() {
    this.asked += 1;
  }

  clear() {
    if (element("asked-picture").src) URL.revokeObjectURL(element("asked-picture").src);
    element("asked-picture").removeAttribute("src");
    element("asked").hidden = true;
  }
}
