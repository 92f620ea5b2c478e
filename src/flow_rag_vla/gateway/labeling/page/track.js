// The track of the object that is shown: pictures of it in the order of time, its figures, and what is done to all of it
// at once. It is asked for once and kept; what is changed here is changed in what is kept.

import { json } from "./api.js";
import { element, make } from "./elements.js";
import { STATES, momentOf } from "./words.js";

const PICTURES = 12; // of a track, beside the picture; the queue shows all of them
const KEPT = 8; // tracks

// Numbers of evenly spaced members with the first and the last, and with the one that is shown.
export function chosen(count, shown, most = PICTURES) {
  if (count <= most) return Array.from({ length: count }, (_, at) => at);
  const places = Array.from({ length: most }, (_, at) => Math.round((at * (count - 1)) / (most - 1)));
  if (shown < 0 || places.includes(shown)) return places;
  const inner = places.slice(1, -1);
  const nearest = inner.reduce((best, at) => (Math.abs(at - shown) < Math.abs(best - shown) ? at : best));
  return places.map((at) => (at === nearest ? shown : at));
}

// Whom a word to all of a track is about. Accepting and renaming leave what was rejected, unless all of it was; who is
// called so already is accepted, where somebody has not judged it.
export function parts(members, { category, state }) {
  const stands = members.filter((item) => item.state !== "rejected");
  const meant = stands.length ? stands : members;
  if (state === "rejected") return [{ objects: stands, wanted: { state } }];
  if (!category) return [{ objects: meant.filter((item) => !item.is_validated), wanted: { state } }];
  const renamed = { objects: meant.filter((item) => item.category !== category), wanted: { category, ...(state && { state }) } };
  const called = { objects: meant.filter((item) => item.category === category && !item.is_validated), wanted: { state: "accepted" } };
  return state ? [renamed, called] : [renamed];
}

export class Track {
  // thumbnail: makes the picture of an object; walk(item): shows the track as the queue, beginning with this member;
  // act(wanted): changes all of it; failed: told of a refusal.
  constructor({ thumbnail, walk, act, failed }) {
    Object.assign(this, { thumbnail, walk, failed });
    this.known = new Map(); // by id: the newest tracks that were shown
    this.shown = null;
    element("track-walk").addEventListener("click", () => walk());
    element("track-accept").addEventListener("click", () => act({ state: "accepted" }));
    element("track-reject").addEventListener("click", () => act({ state: "rejected" }));
    element("track-relabel").addEventListener("submit", (event) => {
      event.preventDefault();
      const word = element("track-word").value.trim();
      element("track-word").value = "";
      element("track-word").blur();
      if (word) act({ category: word });
    });
  }

  clear() {
    this.shown = null;
    element("track").hidden = true;
  }

  async show(item, person, late) {
    if (!item.track_id) return this.clear();
    let found = this.known.get(item.track_id);
    if (!found?.objects.some((member) => member.object_id === item.object_id && member.version === item.version)) {
      if (this.shown?.track_id !== item.track_id) this.clear();
      try {
        found = await json(`tracks/${item.track_id}`);
      } catch (error) {
        if (!late()) this.failed(error);
        return undefined;
      }
      this.known.delete(found.track_id);
      this.known.set(found.track_id, found);
      if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value);
      if (late()) return undefined;
    }
    this.shown = found;
    return this.draw(item, person);
  }

  // What became of an object, wherever it is kept here.
  replaced(made) {
    for (const [id, { objects }] of this.known) {
      const at = objects.findIndex((item) => item.object_id === made.object_id);
      if (at >= 0 && made.track_id === id && !made.deleted) objects[at] = made;
      else if (at >= 0 || made.track_id === id) this.known.delete(id); // it came, or went: who is on it is asked anew
    }
  }

  draw(item, person) {
    const { objects, name } = this.shown;
    element("track-name").textContent = name.length > 20 ? name.slice(0, 8) : name;
    element("track-facts").replaceChildren(...Object.entries(this.facts()).flatMap(([word, value]) => [make("dt", {}, word), make("dd", {}, value)]));
    const at = objects.findIndex((member) => member.object_id === item.object_id);
    element("track-strip").replaceChildren(...chosen(objects.length, at).map((place) => this.picture(objects[place], place === at)));
    for (const id of ["track-accept", "track-reject"]) element(id).disabled = !person.may_review;
    element("track-word").disabled = person.role === "viewer";
    element("track").hidden = false;
  }

  facts() {
    const { objects, start_ns: start, end_ns: end, start_frame: first, end_frame: last, avg_confidence: mean } = this.shown;
    const counted = (names) => {
      const counts = new Map();
      for (const one of names) counts.set(one, (counts.get(one) ?? 0) + 1);
      return [...counts].sort(([, a], [, b]) => b - a).map(([one, count]) => `${count} ${one}`).join(", ");
    };
    return {
      objects: counted(objects.map((item) => item.category)),
      ...(end > start && { seen: `${momentOf(start)} to ${momentOf(end)}, ${((end - start) / 1e9).toFixed(2)} s` }),
      ...(last > first && { frames: `${first} to ${last}` }),
      "mean score": mean.toFixed(3),
      judged: counted(objects.map((item) => STATES[item.state])),
    };
  }

  picture(item, current) {
    const moment = this.shown.end_ns ? momentOf(item.stamp_ns) : `frame ${item.frame}`;
    const title = `${moment}: ${item.category} ${item.confidence.toFixed(2)}, ${STATES[item.state]}`;
    const button = make("button", { type: "button", className: item.state, title });
    button.append(this.thumbnail(item), make("span", { className: "detail" }, moment));
    button.setAttribute("aria-current", String(current));
    button.addEventListener("click", () => this.walk(item));
    return button;
  }
}
