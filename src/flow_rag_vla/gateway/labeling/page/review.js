// The reviewer's bench: a queue of objects, one picture, keys for what is said of it. The server holds the truth: every
// change names the version that was seen, and a change by somebody else in between is shown instead of overwritten.

import { Asking } from "./asking.js";
import { blobAddress, forgetToken, json, keepToken, picture, remembered, tokenFromLink } from "./api.js";
import { distribution, progress, uncount } from "./counts.js";
import { Drawing } from "./drawing.js";
import { element, make } from "./elements.js";
import { Groups } from "./groups.js";
import { Projects } from "./projects.js";
import { Said } from "./said.js";
import { Track, parts } from "./track.js";
import { View, colourOf, tinted } from "./view.js";
import { STATES, saidOf, whyOf } from "./words.js";

const PAGE = 50;
const SIMILAR = 8;
const OTHERS = 40; // boxes drawn of a picture
const RANKED = { next: "curation/next", mistakes: "curation/mistakes" }; // orders that the server computes
const AT_ONCE = 500; // objects that the server changes in one request
const LATER = [0, 408, 503]; // of a server that did not answer, or has too much to do: the same may be sent again
const RERANK = 10; // changes after which the rest of "most useful next" is ranked again

const bench = {
  person: null, // {name, role, may_review}
  items: [], // objects, in the order of the queue
  cursor: "", // of the next page; "" after the last
  place: 0,
  categories: [], // names, most frequent first
  done: [], // what takes back what was changed here, oldest first: {id, query}, or {id, changes} of several objects
  list: null, // what is in the queue instead of an order: {label, load(cursor), home: the order before}
  unranked: 0, // changes since the queue was ranked
  filled: 0, // queues that were asked for: what comes late for an older one is dropped
  counted: 0, // statistics that were asked for
  shown: 0, // grows with every object that is shown: what comes late for an older one is dropped
};
let work = Promise.resolve(); // changes go out one after the other

const view = new View(element("picture"), (box) => change({ bbox: box, ...corrected() }));
const drawing = new Drawing(view, {
  save: (mask) => { drawing.leave(); change({ mask, ...corrected() }, { method: "PUT", tail: "/mask" }); },
  say: (...line) => notice(...line),
});
const said = new Said(element("said"), view, {
  take: ({ category, bbox }, withBox) => (withBox ? change({ category, bbox, ...corrected() }, { onward: true }) : relabel(category)),
  takeOff,
});
const projects = new Projects(elsewhere);
const groups = new Groups({ thumbnail, query: () => filters(["project", "state", "category"]), jump: fromGroup, failed });
const track = new Track({ thumbnail, walk: walkTrack, act: changeTrack, failed });
const asking = new Asking({
  may: () => bench.person.role !== "viewer",
  among: () => ({ category: element("category").value, project: projects.chosen }),
  rests: () => Boolean(drawing.editor),
  found: (items, name) => {
    if (groups.open) groups.close();
    borrow(`like ${name}`, async () => ({ items, cursor: "" }), items[0]);
  },
  say: (...line) => notice(...line),
  failed,
});
const pictures = remembered((id) => picture(`images/${id}/picture`), 12, (bitmap) => bitmap.close());
const crops = remembered((key) => blobAddress(`objects/${key.split("@")[0]}/crop`), 400, URL.revokeObjectURL);

// Redrawing and relabelling correct what a model said; without the right to review, the object goes on waiting.
const corrected = () => (bench.person.may_review ? { state: "relabelled" } : {});

function notice(text, problem = false) {
  const line = element("notice");
  line.textContent = text;
  line.classList.toggle("problem", problem);
}

// Start and sign-in.

async function open() {
  if (!tokenFromLink()) return signIn("");
  bench.done = [];
  try {
    bench.person = await json("me");
    await projects.show();
  } catch (error) {
    if (error.status === 401) forgetToken();
    return signIn(error.message);
  }
  element("sign-in").hidden = true;
  element("bench").hidden = false;
  element("person").textContent = `${bench.person.name}, ${bench.person.role}`;
  await statistics();
  await refill();
}

function signIn(problem) {
  element("bench").hidden = true;
  element("sign-in").hidden = false;
  element("sign-in-problem").textContent = problem;
  element("token").focus();
}

element("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(element("token").value.trim());
  element("token").value = "";
  open();
});

// The queue.

function filters(wanted) {
  const query = new URLSearchParams();
  for (const name of wanted) if (element(name).value) query.set(name, element(name).value);
  return query;
}

function address(cursor) {
  const order = element("order").value;
  // What is useful to review has not been reviewed.
  const query = filters(order === "next" ? ["project", "category"] : ["project", "state", "category"]);
  query.set("limit", PAGE);
  if (cursor) query.set("cursor", cursor);
  if (!RANKED[order]) query.set("order", order);
  return `${RANKED[order] ?? "objects"}?${query}`;
}

// Objects in the order of the queue; a ranked one says why it is where it is.
async function queued(cursor) {
  if (element("order").value === "list") return bench.list.load(cursor);
  return read(address(cursor));
}

async function read(path) {
  const page = await json(path);
  const items = page.items.map((item) => (item.object ? { ...item.object, why: item } : item));
  return { items, cursor: page.next_cursor ?? "" };
}

// wanted: the object to begin with; else the first.
async function refill(wanted = null) {
  const ticket = ++bench.filled;
  asking.forget();
  element("state").disabled = element("order").value === "next";
  try {
    const page = await queued("");
    if (ticket !== bench.filled) return;
    if (wanted && !page.items.some((item) => item.object_id === wanted.object_id)) page.items.unshift(wanted);
    const place = wanted ? page.items.findIndex((item) => item.object_id === wanted.object_id) : 0;
    Object.assign(bench, page, { place, unranked: 0 });
    element("queue").replaceChildren(...bench.items.map(entry));
    await show(place);
  } catch (error) {
    if (ticket !== bench.filled) return;
    if (error.code === "unknown_project") await nothing();
    failed(error);
  }
}

// There is no such project: what was shown of another one does not stand in its place.
async function nothing() {
  Object.assign(bench, { items: [], cursor: "", place: 0 });
  element("queue").replaceChildren();
  await show(0);
}

// Another project was chosen: its own classes, counts and queue.
async function elsewhere() {
  element("project").blur();
  unnamed();
  await statistics();
  chosen();
}

// Something else as the queue than an order: members of a group or a track, or what looks like a picture.
function borrow(label, load, wanted) {
  bench.list = { label, load, home: element("order").value === "list" ? bench.list.home : element("order").value };
  element("order-list").textContent = label;
  element("order-list").hidden = false;
  element("order").value = "list";
  return refill(wanted);
}

// The order that was there before, from the object that is shown on.
function giveBack() {
  if (element("order").value !== "list") return;
  element("order").value = bench.list.home;
  element("order-list").hidden = true;
  asking.clear();
  refill(bench.items[bench.place]);
}

// The members of a group as the queue, the one that was chosen first.
function fromGroup(number, item, query) {
  groups.close();
  borrow(`group ${number}, typical first`, (cursor) => {
    const asked = new URLSearchParams(query);
    asked.set("limit", PAGE);
    if (cursor) asked.set("cursor", cursor);
    return read(`curation/groups/${number}?${asked}`);
  }, item);
}

// The track of the object that is shown as the queue, in the order of time, from one of its members on; or back.
function walkTrack(item = null) {
  const { shown } = track;
  if (!shown) return notice("this object is on no track", true);
  const label = `track ${shown.name.slice(0, 8)}, in time`;
  if (element("order").value === "list" && bench.list.label === label) return item ? show(placeOf(item.object_id)) : giveBack();
  return borrow(label, async () => ({ items: [...shown.objects], cursor: "" }), item ?? bench.items[bench.place]);
}

async function more() {
  const { cursor, filled } = bench;
  if (!cursor) return;
  bench.cursor = ""; // asked for once
  try {
    const page = await queued(cursor);
    if (filled !== bench.filled) return;
    const known = new Set(bench.items.map((item) => item.object_id));
    const fresh = page.items.filter((item) => !known.has(item.object_id));
    element("queue").append(...fresh.map((item, at) => entry(item, bench.items.length + at)));
    bench.items.push(...fresh);
    bench.cursor = page.cursor;
  } catch (error) {
    if (filled !== bench.filled) return;
    bench.cursor = cursor;
    failed(error);
  }
}

// What was judged changes what is useful: everything after the object that is shown is ranked anew.
async function rerank() {
  if (element("order").value !== "next" || ++bench.unranked < RERANK) return;
  const { filled } = bench;
  bench.unranked = 0;
  const page = await queued("");
  if (filled !== bench.filled) return;
  const kept = bench.items.slice(0, bench.place + 1);
  const known = new Set(kept.map((item) => item.object_id));
  bench.items = [...kept, ...page.items.filter((item) => !known.has(item.object_id))];
  bench.cursor = page.cursor;
  element("queue").replaceChildren(...bench.items.map(entry));
  buttons(bench.items[bench.place]);
}

const onSight = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    onSight.unobserve(target);
    crop(target, target.dataset.key);
  }
});

function crop(image, key) {
  crops(key).then((made) => { image.src = made; }, () => { image.alt = "no picture"; });
}

const keyOf = (item) => `${item.object_id}@${item.bbox.join(",")}`;

function thumbnail(item) {
  const image = make("img", { alt: "" });
  image.dataset.key = keyOf(item);
  onSight.observe(image);
  return image;
}

function entry(item, at) {
  const button = make("button", { type: "button", className: item.state });
  button.append(thumbnail(item), make("span", { className: "name" }, item.category, make("span", { className: "detail" })));
  button.querySelector(".detail").textContent = `${item.confidence.toFixed(2)}  ${saidOf(item)}`;
  button.addEventListener("click", () => show(bench.items.findIndex((other) => other.object_id === item.object_id)));
  button.setAttribute("aria-current", String(at === bench.place));
  return button;
}

// What is shown of one object.

async function show(at) {
  drawing.leave();
  const before = element("queue").children[bench.place];
  bench.place = Math.max(0, Math.min(at, bench.items.length - 1));
  before?.setAttribute("aria-current", "false");
  const item = bench.items[bench.place];
  const ticket = ++bench.shown;
  said.clear();
  if (!item) track.clear();
  delete element("picture").dataset.object; // says which object is drawn
  buttons(item);
  element("empty").hidden = Boolean(item);
  if (!item) {
    view.show(null);
    element("picture").getContext("2d").clearRect(0, 0, element("picture").width, element("picture").height);
    for (const id of ["title", "facts", "similar", "similar-note"]) element(id).replaceChildren();
    return;
  }
  const button = element("queue").children[bench.place];
  button?.setAttribute("aria-current", "true");
  button?.scrollIntoView({ block: "nearest", inline: "nearest" });
  facts(item);
  if (bench.place >= bench.items.length - 5) more();
  const late = () => ticket !== bench.shown;
  similar(item, late);
  spoken(item, late);
  const onTrack = track.show(item, bench.person, late);
  try {
    const bitmap = await pictures(item.image_id);
    if (late()) return;
    const drawn = [boxOf(item, true)];
    view.show({ bitmap, objects: drawn });
    element("picture").dataset.object = item.object_id;
    const around = await json(`objects?${new URLSearchParams({ image_id: item.image_id, limit: OTHERS })}`);
    if (late()) return;
    const others = around.items.filter((other) => other.object_id !== item.object_id && other.state !== "rejected");
    drawn.unshift(...others.map((other) => boxOf(other, false)));
    view.draw();
    await Promise.all([item, ...others].filter((other) => other.has_mask).map(async (other) => {
      const mask = await picture(`objects/${other.object_id}/mask`);
      if (late()) return;
      const row = drawn.find((box) => box.id === other.object_id);
      row.mask = await tinted(mask, row.colour);
      view.draw();
    }));
    await onTrack;
    const following = bench.items[bench.place + 1];
    if (following) pictures(following.image_id).catch(() => {});
  } catch (error) {
    if (late()) return;
    if (element("picture").dataset.object !== item.object_id) view.show(null); // not the picture of the one before
    failed(error);
  }
}

function boxOf(item, current) {
  const colour = colourOf(bench.categories, item.category);
  const label = current ? `${item.category} ${item.confidence.toFixed(2)}` : item.category;
  return { id: item.object_id, box: item.bbox, colour, label, current, mask: null };
}

function buttons(item) {
  const may = Boolean(item) && bench.person.role !== "viewer";
  for (const id of ["accept", "reject"]) element(id).disabled = !item || !bench.person.may_review;
  element("undo").disabled = !bench.done.length;
  element("relabel-word").disabled = !may;
  element("draw").disabled = !may;
  element("previous").disabled = bench.place === 0;
  element("next").disabled = bench.place >= bench.items.length - 1;
  for (const button of element("classes").children) button.disabled = !may;
}

function facts(item) {
  element("title").textContent = item.category;
  const rows = {
    state: STATES[item.state] + (item.validated_by ? ` by ${item.validated_by}` : ""),
    score: `${item.confidence.toFixed(3)} (${item.score_kind.replace("_", " ")})`,
    model: item.model,
    box: item.bbox.map((value) => Math.round(value)).join(", "),
    picture: item.frame ? `frame ${item.frame}` : "",
    prompt: item.prompt,
    ...whyOf(item),
  };
  const shown = Object.entries(rows).filter(([, value]) => value);
  element("facts").replaceChildren(...shown.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

async function similar(item, late) {
  const note = element("similar-note");
  try {
    // Another project may have vectors of another embedder, which do not compare.
    const asked = new URLSearchParams({ top_k: SIMILAR, project: item.project });
    const found = await json(`objects/${item.object_id}/similar?${asked}`);
    if (late()) return;
    note.textContent = found.items.length ? "" : "nothing else looks like it";
    element("similar").replaceChildren(...found.items.map(({ similarity, object }) => {
      const image = make("img", { alt: object.category, title: `${object.category}, ${STATES[object.state]}` });
      crop(image, keyOf(object));
      const caption = make("figcaption", {}, `${similarity.toFixed(2)}`, make("br"), object.category);
      return make("figure", { className: object.state }, image, caption);
    }));
  } catch (error) {
    if (late()) return;
    element("similar").replaceChildren();
    note.textContent = error.code === "no_embedding" ? "this object has no vector" : error.message;
  }
}

async function spoken(item, late) {
  try {
    const found = await json(`objects/${item.object_id}/labels`);
    if (!late()) said.show(found, item, bench.person);
  } catch (error) {
    if (!late()) failed(error);
  }
}

// Statistics.

async function statistics() {
  const ticket = ++bench.counted;
  try {
    const project = filters(["project"]);
    const [counts, known] = await Promise.all([json(`stats?${project}`), json(`categories?${project}`)]);
    if (ticket !== bench.counted) return; // a later one is on its way
    const names = Object.entries(counts.by_category).sort(([a, x], [b, y]) => y - x || a.localeCompare(b));
    const rest = known.items.map((category) => category.name).filter((name) => !(name in counts.by_category));
    const before = bench.categories.join("\n");
    // The numbers of the keys stay where they are while somebody works.
    const all = [...names.map(([name]) => name), ...rest];
    bench.categories = [...bench.categories.filter((name) => all.includes(name)), ...all.filter((name) => !bench.categories.includes(name))];
    if (before !== bench.categories.join("\n")) classes();
    progress(counts);
    distribution(names, counts.objects, bench.categories);
  } catch (error) {
    if (ticket !== bench.counted) return;
    if (error.code === "unknown_project") {
      unnamed();
      uncount();
    }
    failed(error);
  }
}

// The classes of one project are not those of another.
function unnamed() {
  bench.categories = [];
  classes();
}

function classes() {
  const made = bench.categories.slice(0, 9).map((name, at) => {
    const button = make("button", { type: "button" }, make("kbd", {}, String(at + 1)), ` ${name}`);
    button.style.borderLeftColor = colourOf(bench.categories, name);
    button.addEventListener("click", () => relabel(name));
    return button;
  });
  element("classes").replaceChildren(...made);
  element("known").replaceChildren(...bench.categories.map((name) => make("option", { value: name })));
  const chosen = element("category").value;
  const options = bench.categories.map((name) => make("option", { value: name }, name));
  element("category").replaceChildren(make("option", { value: "" }, "every class"), ...options);
  element("category").value = bench.categories.includes(chosen) ? chosen : "";
}

// Changes.

// The next object is shown at once; the change goes out behind it. Only a refusal brings a person back.
function change(wanted, { onward = false, method = "PATCH", tail = "" } = {}) {
  const item = bench.items[bench.place];
  if (!item || bench.person.role === "viewer") {
    view.cancel();
    return;
  }
  const id = item.object_id;
  work = work.then(async () => {
    try {
      const now = bench.items[placeOf(id)] ?? item;
      const made = await json(`objects/${id}${tail}`, { method, body: wanted, version: now.version });
      if (made.version > now.version) bench.done.push({ id, query: "" }); // else it was so before, and nothing is to be taken back
      notice(`${made.category}: ${STATES[made.state]}`);
      replace(made);
      statistics();
      const shown = bench.items[bench.place];
      if (shown?.object_id === id) await show(bench.place);
      else settled(shown);
      await rerank();
    } catch (error) {
      await recover(error, id);
    }
  });
  if (onward && bench.place < bench.items.length - 1) show(bench.place + 1);
}

// Another object was changed than the one that is shown, which may be on the same track.
function settled(item) {
  buttons(item);
  if (item) track.show(item, bench.person, () => bench.items[bench.place]?.object_id !== item.object_id);
}

const placeOf = (id) => bench.items.findIndex((item) => item.object_id === id);

function replace(made) {
  track.replaced(made);
  const at = placeOf(made.object_id);
  if (at < 0) return;
  bench.items[at] = { ...made, why: bench.items[at].why };
  element("queue").children[at]?.replaceWith(entry(bench.items[at], at));
}

async function recover(error, id) {
  view.cancel();
  const at = placeOf(id);
  if (at >= 0 && (error.code === "stale_version" || error.code === "object_deleted")) {
    try {
      replace(await json(`objects/${id}`));
      await show(at);
      notice("somebody else changed this one meanwhile: look at it again", true);
      return;
    } catch (second) {
      error = second;
    }
  } else if (at >= 0) {
    await show(at);
  }
  failed(error);
}

function judge(state) {
  if (bench.person.may_review) change({ state }, { onward: true });
}

function relabel(category) {
  if (category && category !== bench.items[bench.place]?.category) change({ category, ...corrected() }, { onward: true });
  else judge("accepted");
}

// All of the track of the object that is shown, in one step that one undo takes back. The server changes so many objects
// in one request, all of them or none; where a later request is refused, the earlier ones are taken back.
function changeTrack({ category, state }) {
  const item = bench.items[bench.place];
  const { shown } = track;
  if (!shown) return notice("this object is on no track", true);
  if (bench.person.role === "viewer" || (state && !bench.person.may_review)) return undefined;
  const id = item.object_id;
  work = work.then(async () => {
    const changes = [];
    const changed = [];
    try {
      const now = track.known.get(shown.track_id) ?? shown;
      for (const { objects, wanted } of parts(now.objects, category ? { category, ...corrected() } : { state })) {
        for (let start = 0; start < objects.length; start += AT_ONCE) {
          const named = objects.slice(start, start + AT_ONCE).map(({ object_id, version }) => ({ object_id, version }));
          const made = await json("objects", { method: "PATCH", body: { ...wanted, objects: named } });
          changes.push(made.change_ids);
          changed.push(...made.objects);
        }
      }
    } catch (error) {
      try {
        (await takenBack(changes)).forEach(replace);
      } catch {
        bench.done.push({ id, changes }); // so that Z can try again
      }
      track.known.delete(shown.track_id); // somebody else changed it: it is asked anew
      await recover(error, id);
      return;
    }
    changed.forEach(replace);
    if (changes.some((part) => part.length)) bench.done.push({ id, changes });
    const left = shown.objects.length - changed.length;
    const rest = left ? `; ${left} ${left === 1 ? "stays as it is" : "stay as they are"}` : "";
    const what = category ? `called ${category}` : STATES[state];
    notice(changed.length ? `all of the track: ${changed.length} ${what}${rest}` : "all of the track is so already");
    statistics();
    const present = bench.items[bench.place]; // somebody may have gone on meanwhile
    const next = element("order").value === "list" ? -1 : bench.items.findIndex((other, at) => at > bench.place && other.track_id !== shown.track_id);
    if (present?.object_id === id) await show(next < 0 ? bench.place : next);
    else settled(present);
    await rerank();
  });
  return undefined;
}

// Take back changes of several objects, the last first; the objects as they are then.
async function takenBack(changes) {
  const made = [];
  for (const part of [...changes].reverse()) {
    if (part.length) made.push(...(await json("objects/undo", { method: "POST", body: { change_ids: part } })).objects);
    part.length = 0; // what is taken back is not asked for again
  }
  return made;
}

// What a further model said is off the object; taking that back puts it there again.
function takeOff(label) {
  const { object_id: id } = bench.items[bench.place];
  work = work.then(async () => {
    try {
      await json(`objects/${id}/undo?change_id=${label.change_id}`, { method: "POST" });
      const { items } = await json(`objects/${id}/history`);
      bench.done.push({ id, query: `?change_id=${items.findLast((made) => made.undoes === label.change_id).change_id}` });
      await show(placeOf(id));
      notice(`taken off: ${label.category} by ${label.model}`);
    } catch (error) {
      await recover(error, id);
    }
  });
}

function undo() {
  work = work.then(async () => {
    const last = bench.done.pop();
    if (!last) return;
    const { id, query, changes } = last;
    try {
      const all = changes ? await takenBack(changes) : [await json(`objects/${id}/undo${query}`, { method: "POST" })];
      all.forEach(replace);
      const made = all.find((item) => item.object_id === id) ?? (await json(`objects/${id}`));
      if (placeOf(id) < 0 && projects.chosen && made.project !== projects.chosen) {
        statistics();
        buttons(bench.items[bench.place]);
        notice(`taken back in the project ${made.project}: ${made.category}, ${STATES[made.state]}`);
        return;
      }
      if (placeOf(id) < 0) {
        bench.items.unshift(made);
        element("queue").prepend(entry(made, 0));
      }
      replace(made);
      statistics();
      await show(placeOf(id));
      notice(changes ? `taken back: ${all.length} objects of the track` : `taken back: ${made.category}, ${STATES[made.state]}`);
      await rerank();
    } catch (error) {
      // What the server refuses now it always will, and the one before is next; but not where it did not come to that.
      if (LATER.includes(error.status)) bench.done.push(last);
      buttons(bench.items[bench.place]);
      failed(error);
    }
  });
}

// The present mask to go on from, once every change that is under way has arrived.
function draw() {
  const item = bench.items[bench.place];
  if (!item || bench.person.role === "viewer") return;
  work = work.then(async () => {
    const ticket = bench.shown;
    const now = bench.items[placeOf(item.object_id)];
    try {
      const bitmap = await pictures(item.image_id);
      const mask = now.has_mask ? await picture(`objects/${item.object_id}/mask`) : null;
      if (ticket === bench.shown) drawing.start(bitmap.width, bitmap.height, mask, now.bbox);
    } catch (error) {
      failed(error);
    }
  });
}

function failed(error) {
  if (error.status === 401) signIn(error.message);
  else notice(error.code === "unknown_project" ? `${error.message} (${error.code})` : error.message, true);
}

// Keys and buttons.

const keys = {
  a: () => judge("accepted"),
  r: () => judge("rejected"),
  z: undo,
  t: () => element("relabel-word").focus(),
  d: draw,
  s: () => said.choose(),
  m: () => { view.masks = !view.masks; view.draw(); },
  f: () => { view.close = !view.close; view.draw(); },
  g: () => groups.show(),
  k: () => walkTrack(),
  p: () => asking.choose(),
  arrowleft: () => show(bench.place - 1),
  arrowright: () => show(bench.place + 1),
  escape: () => (view.start ? view.cancel() : giveBack()),
  "?": () => element("help").showModal(),
};

// With shift: of all of the track.
const trackKeys = {
  a: () => changeTrack({ state: "accepted" }),
  r: () => changeTrack({ state: "rejected" }),
  t: () => element("track-word").focus(),
};

document.addEventListener("keydown", (event) => {
  if (element("bench").hidden || event.ctrlKey || event.metaKey || event.altKey || element("help").open) return;
  if (event.target.closest("input, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (groups.open) {
    if (event.key === "Escape" || event.key.toLowerCase() === "g") groups.close();
    return;
  }
  if (drawing.editor) {
    if (drawing.key(event)) event.preventDefault();
    return;
  }
  if (said.key(event)) return event.preventDefault();
  const key = event.key.toLowerCase();
  const act = (event.shiftKey && trackKeys[key]) || keys[key] || (/^[1-9]$/.test(key) && bench.categories[key - 1] ? () => relabel(bench.categories[key - 1]) : null);
  if (!act || (event.repeat && !key.startsWith("arrow"))) return;
  event.preventDefault();
  act();
});

document.addEventListener("keyup", (event) => drawing.released(event));

element("accept").addEventListener("click", keys.a);
element("reject").addEventListener("click", keys.r);
element("undo").addEventListener("click", keys.z);
element("draw").addEventListener("click", keys.d);
element("previous").addEventListener("click", keys.arrowleft);
element("next").addEventListener("click", keys.arrowright);
element("groups-button").addEventListener("click", () => (groups.open ? groups.close() : groups.show()));
element("help-button").addEventListener("click", keys["?"]);
element("relabel").addEventListener("submit", (event) => {
  event.preventDefault();
  const word = element("relabel-word").value.trim();
  element("relabel-word").value = "";
  element("relabel-word").blur();
  if (word) relabel(word);
});
for (const id of ["state", "category", "order"]) {
  element(id).addEventListener("change", () => {
    element(id).blur();
    if (groups.open && id === "order") groups.close();
    chosen(id === "order");
  });
}

// What is chosen above is another one: the queue, and the groups where they are shown, are made anew.
function chosen(order = false) {
  // Of other objects there are other groups.
  if (!order && element("order").value === "list") element("order").value = "lowest_score";
  element("order-list").hidden = element("order").value !== "list";
  if (element("order").value !== "list") asking.clear();
  if (groups.open) groups.refill();
  refill();
}

window.addEventListener("hashchange", open); // a link with another token, opened in this tab

open();
