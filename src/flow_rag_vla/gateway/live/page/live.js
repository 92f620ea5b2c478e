// Puts the parts together: frames in, pictures and numbers out, and the buttons.

import { Stream, request, setToken, takeToken, told } from "./wire.js";
import { histogram, motion, overlay } from "./draw.js";
import { Memory, element, fixed, words } from "./memory.js";
import { Person } from "./person.js";

const KEPT = 460;
const ROLES = ["viewer", "labeller", "reviewer", "operator"];
const TONES = { follow: "good", takeover: "good", hold: "warn", decelerate: "warn", stop: "bad", emergency_stop: "bad" };
const CLAMPS = { 1: "workspace", 2: "velocity", 4: "acceleration", 8: "gripper", 16: "tracking", 32: "rotation" };
const $ = (id) => document.getElementById(id);

const history = { t: [], action: [], mode: [], correction: [] };
const SILENCE_MS = 5000; // the slowest page gets a frame in 0.8 s and a picture in 1.6 s
const AGAIN_MS = 3000;
const TOASTS = 5;
const ENDING_MS = 600000;
const RELEASING_MS = 20000;
const last = { chunk: null, histogram: null, told: "" };
const heard = { frame: 0, commands: 0, front: 0, wrist: 0 }; // when, by this browser's clock; 0: never
let awake = 0; // when this page was shown again last: what it missed before is no silence
let lost = null; // why there is no connection, once there is none
let role = "";
let ends = null; // when the token does, by this browser's clock; null: never, or it has been said
let stream = null;
let attempts = 0;

// Only what is new is written: a screen reader tells again what is written again.
function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(dot, tone, text) {
  dot.className = `dot ${tone}`;
  if (dot.title === text) return;
  dot.title = text;
  dot.setAttribute("aria-label", text);
}

// Long ones stay longer; a click takes one away.
function say(text, bad = false) {
  const toast = element("div", { className: bad ? "toast bad" : "toast", textContent: text, title: "click to close" });
  toast.setAttribute("role", bad ? "alert" : "status");
  toast.addEventListener("click", () => toast.remove());
  $("toasts").append(toast);
  while ($("toasts").children.length > TOASTS) $("toasts").firstElementChild.remove();
  setTimeout(() => toast.remove(), (bad ? 9000 : 4500) + 40 * text.length);
}

const may = (needed) => ROLES.indexOf(role) >= ROLES.indexOf(needed);
const memory = new Memory(say, may);
const person = new Person(say, may);

async function ask(button, path, body, said) {
  button.disabled = true;
  try {
    const answer = await request(path, body);
    say(said ? said(answer) : answer.message);
  } catch (error) {
    say(told(error), true);
  } finally {
    button.disabled = !may("operator");
  }
}

// Never out of reach while an answer is waited for: who presses again means it.
$("estop").addEventListener("click", async () => {
  askToRelease(false);
  try {
    const answer = await request("/emergency_stop", {});
    say(answer.confirmed ? "Emergency stop is latched." : `Stop sent, not confirmed: ${answer.message}`, !answer.confirmed);
  } catch (error) {
    say(`The emergency stop may not have arrived: ${told(error)}. Use the one on the robot.`, true);
  }
});

// Asked in the page, below the bar's buttons: a dialog of the browser would cover the emergency stop. A question that
// nobody answers is taken back: later somebody else may stand at the robot.
let asked = 0;

function askToRelease(open) {
  clearTimeout(asked);
  if (open) asked = setTimeout(() => askToRelease(false), RELEASING_MS);
  const left = $("releasing").contains(document.activeElement);
  $("releasing").hidden = !open;
  $("release").setAttribute("aria-expanded", String(open));
  if (open) $("release-not").focus();
  else if (left) $("release").focus();
}

$("release").addEventListener("click", () => askToRelease($("releasing").hidden));
$("release-not").addEventListener("click", () => askToRelease(false));
$("release-now").addEventListener("click", () => {
  askToRelease(false);
  ask($("release"), "/release", {});
});
$("releasing").addEventListener("keydown", (event) => {
  if (event.key === "Escape") askToRelease(false);
});
$("stop").addEventListener("click", () => ask($("stop"), "/stop", {}));
$("order").addEventListener("submit", (event) => {
  event.preventDefault();
  ask($("start"), "/start", { instruction: $("instruction").value.trim() });
});
$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value.trim());
  $("token").value = "";
  begin();
});

function take(frame, first) {
  heard.frame = Date.now();
  if (frame.commands) {
    heard.commands = heard.frame;
    // A new connection tells again what is known; a clock that went back is that of another run.
    if (first || frame.commands.t[0] < history.t[history.t.length - 1]) for (const key of Object.keys(history)) history[key].length = 0;
    for (const key of Object.keys(history)) {
      history[key].push(...frame.commands[key]);
      history[key].splice(0, Math.max(0, history[key].length - KEPT));
    }
  }
  if (frame.chunk) last.chunk = frame.chunk;
  if (frame.state) showState(frame.state);
  if (frame.commands || frame.chunk) motion($("motion"), history, last.chunk);
  if (frame.pictures) showPictures(frame.pictures, frame.now);
  if (frame.episode) showEpisode(frame.episode);
  if (frame.task) tellTask(frame.task, first);
  if (frame.person) person.changed(frame.person, frame.now);
  if (frame.loop) showLoop(frame.loop, frame.histogram);
  if (frame.memory) memory.changed(frame.memory);
  if (frame.timeline) showTimeline(frame.timeline, first);
  if (frame.nodes) showNodes(frame.nodes);
  if (frame.overall) {
    put($("overall"), frame.overall.message);
    $("overall").title = frame.overall.message;
  }
  put($("pace"), frame.pace.level ? `late ticks: this page slows down to ${frame.pace.data_hz.toFixed(1)} Hz` : "");
}

// The newest outcome comes with the first frame of every connection, however old it is: only a page that saw the task
// begin tells it then.
function tellTask(task, first) {
  const known = first && (!last.told || last.told === JSON.stringify(task));
  last.told = JSON.stringify(task);
  if (!known && task.outcome) say(`${task.asked}: ${task.outcome}. ${task.reason}`, task.outcome !== "success");
}

function showState(state) {
  const chip = $("mode");
  put(chip, words(state.mode));
  chip.className = `chip ${TONES[state.mode] || ""}`;
  put($("reason"), state.reason);
  $("reason").title = state.reason;
  $("release").hidden = state.mode !== "emergency_stop";
  if ($("release").hidden && !$("releasing").hidden) askToRelease(false);
  const facts = [];
  const fact = (name, value) => facts.push(element("span", {}, `${name} `, element("b", { textContent: value })));
  if (state.chunk) fact("row", `${state.row} of chunk ${state.chunk}`);
  if (state.chunk && state.age_ms !== null) fact("observation", `${state.age_ms.toFixed(0)} ms old`);
  const clamps = Object.keys(CLAMPS).filter((bit) => state.clamps & bit).map((bit) => CLAMPS[bit]);
  fact("limits met", clamps.join(", ") || "none");
  fact("memory", state.cases.length ? `${words(state.correction)} ${fixed(state.strength, 2)} from case ${state.cases.slice(0, 3).join(", ")}${state.cases.length > 3 ? " …" : ""}` : words(state.correction));
  if (state.target) fact("target", state.target.map((value) => fixed(value, 3)).join(", ") + " m");
  $("command-facts").replaceChildren(...facts);
  if (last.chunk) {
    const chunk = last.chunk;
    $("chunk").textContent = `${chunk.policy}, ${chunk.actions.length} rows, ${chunk.committed} committed, inference ${fixed(chunk.inference_ms, 1)} ms`;
  }
}

function showPictures(pictures, now) {
  for (const [name, picture] of Object.entries(pictures)) {
    const image = $(name);
    if (!image) continue;
    image.src = `data:image/jpeg;base64,${picture.jpeg}`;
    overlay($(`${name}-overlay`), picture);
    const age = now - picture.t;
    if (name in heard) heard[name] = Date.now();
    image.parentElement.classList.remove("stale");
    if (name === "front") $("picture-age").textContent = Math.abs(age) < 60000 ? `${Math.max(age, 0).toFixed(0)} ms after capture` : "";
    if (name === "wrist") put($("wrist-age"), "");
  }
}

function showEpisode(episode) {
  const name = episode.id ? `episode ${episode.id}: ${episode.instruction || words(episode.task)}` : "no episode yet";
  const state = episode.state === "running" ? `${episode.phase}, ${fixed(episode.elapsed, 1)} s` : episode.state;
  const score = episode.finished ? `, ${episode.succeeded} of ${episode.finished} succeeded` : "";
  put($("episode"), `${name} (${state}${score})`);
}

function showLoop(loop, bins) {
  const tile = (value, name, warn = false) => element("div", { className: warn ? "tile warn" : "tile" }, element("b", { textContent: value }), element("span", { textContent: name }));
  $("loop-tiles").replaceChildren(
    tile(fixed(loop.rate_hz, 2), "Hz", !(Math.abs(loop.rate_hz - 40) <= 0.5)),
    tile(fixed(loop.tick_error_p99_ms, 2), "ms error, p99"),
    tile(String(loop.late_ticks), "late ticks", loop.late_ticks > 0),
    tile(String(loop.skipped_ticks), "skipped", loop.skipped_ticks > 0),
  );
  $("stages").replaceChildren(...loop.stages.filter((stage) => stage.count).map((stage) =>
    element("tr", {}, element("td", { textContent: words(stage.stage) }), element("td", { textContent: `p50 ${fixed(stage.p50_ms, 1)} ms` }), element("td", { textContent: `p99 ${fixed(stage.p99_ms, 1)} ms` }))));
  if (bins) {
    last.histogram = bins;
    histogram($("histogram"), bins.edges, bins.counts);
  }
}

function caseLinks(answer) {
  const links = answer.cases.map((id) => {
    const link = element("button", { className: "link", type: "button", textContent: `case ${id}` });
    link.addEventListener("click", () => memory.open(id));
    return link;
  });
  return links.flatMap((link, i) => (i ? [", ", link] : [link])).concat(answer.more_cases ? [` and ${answer.more_cases} more`] : []);
}

function answerWords(answer) {
  const similar = answer.similarity === null ? "" : `, similarity ${fixed(answer.similarity, 2)}`;
  return `${words(answer.mode)}, strength ${fixed(answer.strength, 2)}${similar}, ${answer.uses} ${answer.uses === 1 ? "observation" : "observations"}: `;
}

// Words change in place, as an answer that goes on is told ten times a second: what is replaced cannot be clicked.
function answerLine() {
  const said = element("span");
  const links = element("span");
  let known = "";
  return {
    line: element("p", {}, said, links),
    update(before, answer) {
      put(said, before + (answer ? answerWords(answer) : ""));
      const now = answer ? JSON.stringify([answer.cases, answer.more_cases]) : "";
      if (now !== known) links.replaceChildren(...(answer ? caseLinks(answer) : []));
      known = now;
    },
  };
}

function timelineRow(entry) {
  const time = element("time", { textContent: new Date(entry.t).toLocaleTimeString() });
  const answer = answerLine();
  if (entry.kind === "answer") {
    const item = element("li", { className: "answer" }, element("div", { className: "head" }, element("b", { textContent: "memory acted" }), time), answer.line);
    return { item, update: (now) => answer.update("", now) };
  }
  const evidence = entry.evidence.map((one) => `${words(one.name)} ${one.value === null ? "?" : Number(one.value.toPrecision(3))} ${one.unit}`).join(", ");
  const item = element("li", { className: "failure" },
    element("div", { className: "head" }, element("b", { textContent: words(entry.type) }), element("span", { className: "note", textContent: `${entry.phase}, episode ${entry.episode}` }), time),
    element("p", { textContent: entry.description }),
    ...(evidence ? [element("p", { className: "evidence", textContent: evidence })] : []),
    answer.line);
  return {
    item,
    update(now) {
      answer.line.className = now.answer ? "answered" : "";
      answer.update(now.answer ? "answered by " : "no answer from the memory", now.answer);
    },
  };
}

const happened = new Map(); // rows of the timeline by id

function showTimeline(entries, first) {
  $("no-failures").hidden = entries.length > 0;
  const failures = entries.filter((entry) => entry.kind === "failure");
  const answered = failures.filter((entry) => entry.answer).length;
  put($("failure-count"), failures.length ? `${failures.length} ${failures.length === 1 ? "failure" : "failures"}, ${answered} answered` : "");
  const known = new Set(first ? [] : entries.map((entry) => entry.id)); // ids are the server's, which may be another one
  for (const [id, row] of happened) {
    if (known.has(id)) continue;
    row.item.remove();
    happened.delete(id);
  }
  entries.forEach((entry, at) => {
    if (!happened.has(entry.id)) {
      happened.set(entry.id, timelineRow(entry));
      $("timeline").insertBefore(happened.get(entry.id).item, $("timeline").children[at] || null);
    }
    happened.get(entry.id).update(entry);
  });
}

const LEVELS = [["good", "well"], ["warn", "warning"], ["bad", "error"], ["", "silent"]];
const rows = new Map(); // of the list of nodes, by name

// Rows stay and their words change: what is replaced ten times a second cannot be clicked.
function showNodes(nodes) {
  const known = new Set(nodes.map((node) => node.name));
  for (const [name, row] of rows) {
    if (!known.has(name)) {
      row.item.remove();
      rows.delete(name);
    }
  }
  nodes.forEach((node, at) => {
    if (!rows.has(node.name)) {
      const row = { dot: element("span"), message: element("span"), figures: element("dl") };
      row.dot.setAttribute("role", "img");
      const summary = element("summary", {}, row.dot, element("b", { textContent: node.name }), row.message);
      row.item = element("li", {}, element("details", {}, summary, row.figures));
      rows.set(node.name, row);
      $("nodes").insertBefore(row.item, $("nodes").children[at] || null);
    }
    const row = rows.get(node.name);
    mark(row.dot, ...(LEVELS[node.level] || ["", "unknown"]));
    put(row.message, node.message);
    row.message.title = node.message;
    row.figures.replaceChildren(...Object.entries(node.figures).flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })]));
  });
}

// What stays on the page when nothing new comes looks like now, and is not.
function showSilence() {
  const now = Date.now();
  const old = (when) => when > 0 && !document.hidden && now - Math.max(when, awake) > SILENCE_MS;
  const since = (when) => new Date(when).toLocaleTimeString();
  const silent = lost !== null || old(heard.frame);
  const why = lost || "the server does not answer";
  put($("lost"), !silent ? "" : heard.frame ? `No connection since ${since(heard.frame)}: ${why}. What is shown is from then.` : `No connection: ${why}.`);
  $("lost").hidden = !silent || !$("gate").hidden;
  $("main").classList.toggle("stale", silent);
  mark($("connection"), silent ? "bad" : heard.frame ? "good" : "", silent || !heard.frame ? "not connected" : "connected");
  if (ends !== null && ends - now < ENDING_MS) {
    ends = null;
    say("This token ends within ten minutes, and with it the buttons here. Open the address of a new one in this tab.", true);
  }
  if (silent) return;
  if (old(heard.commands)) {
    put($("mode"), "no commands");
    $("mode").className = "chip warn";
    put($("reason"), `none since ${since(heard.commands)}`);
  }
  for (const [name, note] of [["front", "picture-age"], ["wrist", "wrist-age"]]) {
    if (!old(heard[name])) continue;
    put($(note), `no picture since ${since(heard[name])}`);
    $(name).parentElement.classList.add("stale");
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) awake = Date.now();
});

function gate(why) {
  const opened = $("gate").hidden;
  memory.close();
  askToRelease(false);
  $("main").hidden = $("controls").hidden = true;
  $("gate").hidden = false;
  if (why) put($("gate-why"), why);
  showSilence();
  if (opened) $("token").focus();
}

async function begin() {
  const attempt = ++attempts;
  if (stream) stream.end();
  stream = null;
  if (!takeToken()) return gate();
  try {
    const person = await request("/person");
    const vocabulary = await request("/vocabulary");
    if (attempt !== attempts) return undefined;
    role = person.role;
    ends = person.left_s === null ? null : Date.now() + 1000 * person.left_s;
    $("instructions").replaceChildren(...vocabulary.instructions.map((text) => element("option", { value: text })));
    memory.setTypes(vocabulary.failure_types);
  } catch (error) {
    if (attempt !== attempts) return undefined;
    if (error.status === 401 || error.status === 403) {
      setToken("");
      return gate(`${told(error)}.`);
    }
    setTimeout(() => attempt === attempts && begin(), AGAIN_MS); // the token is as good as before
    return gate(`${told(error)}. This page goes on trying.`);
  }
  $("gate").hidden = true;
  $("main").hidden = $("controls").hidden = false;
  for (const id of ["estop", "release", "start", "stop"]) {
    $(id).disabled = !may("operator");
    $(id).title = may("operator") ? "" : "needs the token of an operator";
  }
  $("export").disabled = !may("reviewer");
  $("export").title = may("reviewer") ? "" : "needs the token of a reviewer";
  stream = new Stream(take, (state, error) => {
    lost = state === "open" ? null : error.message || "the server does not answer";
    if (state === "refused") gate(`${told(error)}.`);
    if (state !== "open") showSilence();
  });
  return undefined;
}

// An address with another token, opened in the same tab, does not load the page again.
window.addEventListener("hashchange", () => {
  if (location.hash) begin();
});

// What hangs over the page leaves the bar free, whatever its height is.
new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${$("bar").offsetHeight}px`)).observe($("bar"));

window.addEventListener("resize", () => {
  motion($("motion"), history, last.chunk);
  if (last.histogram) histogram($("histogram"), last.histogram.edges, last.histogram.counts);
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.dispatchEvent(new Event("resize")));
setInterval(showSilence, 1000);
begin();
