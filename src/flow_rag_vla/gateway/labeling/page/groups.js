// Groups of objects that look alike: a row of pictures each, the most typical first. A picture leads to its object, with
// the others of its group behind it in the queue.

import { json } from "./api.js";
import { element, make } from "./elements.js";
import { STATES, verdictOf } from "./words.js";

const TYPICAL = 8; // pictures of a row
const UNUSUAL = 4;
const MORE = 48; // members that are asked for at once

export class Groups {
  // thumbnail: makes the picture of an object; query: the filters of the page; jump(group, object, query): shows an
  // object of a group that was asked for with this query; failed: told of a refusal.
  constructor({ thumbnail, query, jump, failed }) {
    Object.assign(this, { thumbnail, query, jump, failed });
    this.asked = 0; // grows with every question: what comes late for an older one is dropped
    element("groups-close").addEventListener("click", () => this.close());
    element("groups-count").addEventListener("change", () => this.refill());
  }

  get open() {
    return !element("groups").hidden;
  }

  show() {
    element("groups").hidden = false;
    element("groups-button").setAttribute("aria-pressed", "true");
    element("groups-close").focus();
    return this.refill();
  }

  close() {
    this.asked += 1;
    element("groups").hidden = true;
    element("groups-button").setAttribute("aria-pressed", "false");
    element("groups-list").replaceChildren();
  }

  say(text, problem = false) {
    element("groups-note").textContent = text;
    element("groups-note").classList.toggle("problem", problem);
  }

  async refill() {
    const ticket = ++this.asked;
    const query = this.query();
    if (element("groups-count").value) query.set("groups", element("groups-count").value);
    element("groups-list").replaceChildren();
    this.say("sorting ...");
    try {
      const found = await json(`curation/groups?members=${TYPICAL}&limit=100&${query}`);
      if (ticket !== this.asked) return;
      this.say(verdictOf(found));
      element("groups-list").replaceChildren(...found.items.map((group) => this.row(group, query)));
    } catch (error) {
      if (ticket !== this.asked) return;
      this.say(error.message, true);
      if (error.status === 401) this.failed(error);
    }
  }

  row(group, query) {
    const known = new Set(group.typical.map((item) => item.object_id));
    const unusual = group.unusual.filter((item) => !known.has(item.object_id)).slice(0, UNUSUAL);
    const pictures = (items) => items.map((item) => this.picture(item, group, query));
    const members = make("div", { className: "members" }, ...pictures(group.typical));
    if (unusual.length) members.append(make("span", { className: "between", textContent: "least typical" }), ...pictures(unusual));
    const facts = [
      `${group.objects} ${group.objects === 1 ? "object" : "objects"}`,
      `silhouette ${group.silhouette.toFixed(2)}`,
      `spread ${group.spread.toFixed(2)}`,
    ];
    const all = make("button", { type: "button", textContent: "all of it" });
    all.addEventListener("click", () => this.all(group, query, all, members, ""));
    if (known.size + unusual.length >= group.objects) all.hidden = true;
    return make("article", {},
      make("h3", {}, `${group.group}  ${group.mostly}`, make("span", { className: "quiet" }, `${Math.round(100 * group.mostly_share)} %`)),
      make("p", { className: "quiet" }, facts.join(", ")), all, members);
  }

  // A page of the members in place of what was shown, or behind it; the button then asks for the next.
  async all(group, query, button, members, cursor) {
    const ticket = this.asked;
    button.disabled = true;
    try {
      const page = await json(`curation/groups/${group.group}?limit=${MORE}&cursor=${cursor}&${query}`);
      if (ticket !== this.asked) return;
      const made = page.items.map(({ object }) => this.picture(object, group, query));
      if (cursor) members.append(...made);
      else members.replaceChildren(...made);
      button.replaceWith(...(page.next_cursor ? [this.following(group, query, members, page)] : []));
    } catch (error) {
      button.disabled = false;
      this.say(error.message, true);
      if (error.status === 401) this.failed(error);
    }
  }

  following(group, query, members, page) {
    const shown = members.querySelectorAll("button").length;
    const button = make("button", { type: "button", textContent: `more (${shown} of ${page.objects})` });
    button.addEventListener("click", () => this.all(group, query, button, members, page.next_cursor));
    return button;
  }

  picture(item, group, query) {
    const odd = item.category === group.mostly ? "" : " odd";
    const button = make("button", { type: "button", className: `${item.state}${odd}`, title: `${item.category} ${item.confidence.toFixed(2)}, ${STATES[item.state]}` });
    button.append(this.thumbnail(item), make("span", { className: "detail" }, item.category));
    button.addEventListener("click", () => this.jump(group.group, item, query));
    return button;
  }
}
