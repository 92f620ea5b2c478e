// Puts the parts together: frames in, pictures and numbers out, and the buttons.

import { Refused, Stream, request, setToken, takeToken } from "./wire.js";
import { histogram, motion, overlay } from "./draw.js";
import { Memory, element, words } from "./memory.js";
import { Person } from "./person.js";

const KEPT = 460;
const ROLES = ["viewer", "labeller", "reviewer", "operator"];
const TONES = { follow: "good", takeover: "good", hold: "warn", decelerate: "warn", stop: "bad", emergency_stop: "bad" };
const CLAMPS = { 1: "workspace", 2: "velocity", 4: "acceleration", 8: "gripper", 16: "tracking", 32: "rotation" };
const $ = (id) => document.getElementById(id);

const history = { t: [], action: [], mode: [], correction: [] };
const SILENCE_MS = 5000; // the slowest page gets a frame in 0.8 s and a picture in 1.6 s
const last = { chunk: null, histogram: null, told: "" };
const heard = { frame: 0, commands: 0, front: 0 }; // when, by this browser's clock; 0: never
let lost = null; // why there is no connection, once there is none
let role = "";

// Long ones stay longer; a click takes one away.
function say(text, bad = false) {
  const toast = element("div", { className: bad ? "toast bad" : "toast", textContent: text, title: "click to close" });
  toast.addEventListener("click", () => toast.remove());
  $("toasts").append(toast);
  // An open case lies on top of everything else, and would hide what is said of it.
  ($("case").open ? $("case") : document.body).append($("toasts"));
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
    say(error instanceof Refused ? `${error.message}; ${error.remedy}` : String(error), true);
  } finally {
    button.disabled = !may("operator");
  }
}

$("case").addEventListener("close", () => document.body.append($("toasts")));
$("estop").addEventListener("click", () =>
  ask($("estop"), "/emergency_stop", {}, (answer) => (answer.confirmed ? "Emergency stop is latched." : `Stop sent, not confirmed: ${answer.message}`)));
$("release").addEventListener("click", () => {
  if (confirm("Release the emergency stop? The robot may move again.")) ask($("release"), "/release", {});
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
  if (frame.timeline) showTimeline(frame.timeline);
  if (frame.nodes) showNodes(frame.nodes);
  if (frame.overall) {
    $("overall").textContent = frame.overall.message;
    $("overall").title = frame.overall.message;
  }
  $("pace").textContent = frame.pace.level ? `late ticks: this page slows down to ${frame.pace.data_hz.toFixed(1)} Hz` : "";
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
  chip.textContent = words(state.mode);
  chip.className = `chip ${TONES[state.mode] || ""}`;
  $("reason").textContent = state.reason;
  $("release").hidden = state.mode !== "emergency_stop";
  const facts = [];
  const fact = (name, value) => facts.push(element("span", {}, `${name} `, element("b", { textContent: value })));
  if (state.chunk) fact("row", `${state.row} of chunk ${state.chunk}`);
  if (state.chunk && state.age_ms !== null) fact("observation", `${state.age_ms.toFixed(0)} ms old`);
  const clamps = Object.keys(CLAMPS).filter((bit) => state.clamps & bit).map((bit) => CLAMPS[bit]);
  fact("limits met", clamps.join(", ") || "none");
  fact("memory", state.cases.length ? `${words(state.correction)} ${state.strength.toFixed(2)} from case ${state.cases.slice(0, 3).join(", ")}${state.cases.length > 3 ? " …" : ""}` : words(state.correction));
  if (state.target) fact("target", state.target.map((value) => value.toFixed(3)).join(", ") + " m");
  $("command-facts").replaceChildren(...facts);
  if (last.chunk) {
    const chunk = last.chunk;
    $("chunk").textContent = `${chunk.policy}, ${chunk.actions.length} rows, ${chunk.committed} committed, inference ${chunk.inference_ms.toFixed(1)} ms`;
  }
}

function showPictures(pictures, now) {
  for (const [name, picture] of Object.entries(pictures)) {
    const image = $(name);
    if (!image) continue;
    image.src = `data:image/jpeg;base64,${picture.jpeg}`;
    overlay($(`${name}-overlay`), picture);
    const age = now - picture.t;
    if (name === "front") heard.front = Date.now();
    if (name === "front") $("picture-age").textContent = Math.abs(age) < 60000 ? `${Math.max(age, 0).toFixed(0)} ms after capture` : "";
  }
}

function showEpisode(episode) {
  const told = episode.id ? `episode ${episode.id}: ${episode.instruction || words(episode.task)}` : "no episode yet";
  const state = episode.state === "running" ? `${episode.phase}, ${episode.elapsed.toFixed(1)} s` : episode.state;
  const score = episode.finished ? `, ${episode.succeeded} of ${episode.finished} succeeded` : "";
  $("episode").textContent = `${told} (${state}${score})`;
}

function showLoop(loop, bins) {
  const tile = (value, name, warn = false) => element("div", { className: warn ? "tile warn" : "tile" }, element("b", { textContent: value }), element("span", { textContent: name }));
  $("loop-tiles").replaceChildren(
    tile(loop.rate_hz.toFixed(2), "Hz", Math.abs(loop.rate_hz - 40) > 0.5),
    tile(`${loop.tick_error_p99_ms.toFixed(2)}`, "ms error, p99"),
    tile(String(loop.late_ticks), "late ticks", loop.late_ticks > 0),
    tile(String(loop.skipped_ticks), "skipped", loop.skipped_ticks > 0),
  );
  $("stages").replaceChildren(...loop.stages.filter((stage) => stage.count).map((stage) =>
    element("tr", {}, element("td", { textContent: words(stage.stage) }), element("td", { textContent: `p50 ${stage.p50_ms.toFixed(1)} ms` }), element("td", { textContent: `p99 ${stage.p99_ms.toFixed(1)} ms` }))));
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
  const similar = answer.similarity === null ? "" : `, similarity ${answer.similarity.toFixed(2)}`;
  return `${words(answer.mode)}, strength ${answer.strength.toFixed(2)}${similar}, ${answer.uses} ${answer.uses === 1 ? "observation" : "observations"}: `;
}

function showTimeline(entries) {
  $("no-failures").hidden = entries.length > 0;
  const failures = entries.filter((entry) => entry.kind === "failure");
  $("failure-count").textContent = failures.length ? `${failures.length} failures, ${failures.filter((entry) => entry.answer).length} answered` : "";
  $("timeline").replaceChildren(...entries.map((entry) => {
    const time = element("time", { textContent: new Date(entry.t).toLocaleTimeString() });
    if (entry.kind === "answer") {
      return element("li", { className: "answer" }, element("div", { className: "head" }, element("b", { textContent: "memory acted" }), time),
        element("p", {}, answerWords(entry), ...caseLinks(entry)));
    }
    const evidence = entry.evidence.map((item) => `${words(item.name)} ${item.value === null ? "?" : Number(item.value.toPrecision(3))} ${item.unit}`).join(", ");
    return element("li", { className: "failure" },
      element("div", { className: "head" }, element("b", { textContent: words(entry.type) }), element("span", { className: "note", textContent: `${entry.phase}, episode ${entry.episode}` }), time),
      element("p", { textContent: entry.description, title: evidence }),
      entry.answer ? element("p", { className: "answered" }, "answered by ", answerWords(entry.answer), ...caseLinks(entry.answer)) : element("p", { textContent: "no answer from the memory" }));
  }));
}

const LEVELS = ["good", "warn", "bad", ""];
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
      const summary = element("summary", {}, row.dot, element("b", { textContent: node.name }), row.message);
      row.item = element("li", {}, element("details", {}, summary, row.figures));
      rows.set(node.name, row);
      $("nodes").insertBefore(row.item, $("nodes").children[at] || null);
    }
    const row = rows.get(node.name);
    row.dot.className = `dot ${LEVELS[node.level] || ""}`;
    row.message.textContent = row.message.title = node.message;
    row.figures.replaceChildren(...Object.entries(node.figures).flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })]));
  });
}

// What stays on the page when nothing new comes looks like now, and is not.
function showSilence() {
  const now = Date.now();
  const old = (when) => when > 0 && !document.hidden && now - when > SILENCE_MS;
  const since = (when) => new Date(when).toLocaleTimeString();
  const silent = lost !== null || old(heard.frame);
  const why = lost || "the server does not answer";
  $("lost").hidden = !silent || !$("gate").hidden;
  $("lost").textContent = heard.frame ? `No connection since ${since(heard.frame)}: ${why}. What is shown is from then.` : `No connection: ${why}.`;
  $("main").classList.toggle("stale", silent);
  $("connection").className = `dot ${silent ? "bad" : heard.frame ? "good" : ""}`;
  if (silent) return;
  if (old(heard.commands)) {
    $("mode").textContent = "no commands";
    $("mode").className = "chip warn";
    $("reason").textContent = `none since ${since(heard.commands)}`;
  }
  if (old(heard.front)) $("picture-age").textContent = `no picture since ${since(heard.front)}`;
}

// A hidden page asks for nothing: what it missed meanwhile is no silence.
document.addEventListener("visibilitychange", () => {
  for (const what of Object.keys(heard)) if (heard[what] && !document.hidden) heard[what] = Date.now();
});

function gate(why) {
  $("main").hidden = $("controls").hidden = true;
  $("gate").hidden = false;
  if (why) $("gate-why").textContent = why;
}

async function begin() {
  if (!takeToken()) return gate();
  try {
    role = (await request("/person")).role;
    const vocabulary = await request("/vocabulary");
    $("instructions").replaceChildren(...vocabulary.instructions.map((text) => element("option", { value: text })));
    memory.setTypes(vocabulary.failure_types);
  } catch (error) {
    if (error.status === 401 || error.status === 403) setToken(""); // else it is as good as before
    return gate(error instanceof Refused ? `${error.message}; ${error.remedy}.` : String(error));
  }
  $("gate").hidden = true;
  $("main").hidden = $("controls").hidden = false;
  for (const id of ["estop", "release", "start", "stop"]) {
    $(id).disabled = !may("operator");
    $(id).title = may("operator") ? "" : "needs the token of an operator";
  }
  $("export").disabled = !may("reviewer");
  new Stream(take, (state, error) => {
    lost = state === "open" ? null : error.message || "the server does not answer";
    if (state === "refused") gate(`${error.message}; ${error.remedy}.`);
    if (state !== "open") showSilence();
  });
  return undefined;
}

window.addEventListener("resize", () => {
  motion($("motion"), history, last.chunk);
  if (last.histogram) histogram($("histogram"), last.histogram.edges, last.histogram.counts);
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.dispatchEvent(new Event("resize")));
setInterval(showSilence, 1000);
begin();
