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
const last = { chunk: null, histogram: null, pictures: {} };
let role = "";

function say(text, bad = false) {
  const toast = element("div", { className: bad ? "toast bad" : "toast", textContent: text });
  $("toasts").append(toast);
  setTimeout(() => toast.remove(), bad ? 9000 : 4500);
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

function take(frame) {
  if (frame.commands) {
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
  if (frame.task && frame.task.outcome) say(`${frame.task.asked}: ${frame.task.outcome}. ${frame.task.reason}`, frame.task.outcome !== "success");
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
const open = new Set();

function showNodes(nodes) {
  $("nodes").replaceChildren(...nodes.map((node) => {
    const details = element("details", { open: open.has(node.name) },
      element("summary", {}, element("span", { className: `dot ${LEVELS[node.level] || ""}` }), element("b", { textContent: node.name }), element("span", { textContent: node.message })),
      element("dl", {}, ...Object.entries(node.figures).flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })])));
    details.addEventListener("toggle", () => (details.open ? open.add(node.name) : open.delete(node.name)));
    return element("li", {}, details);
  }));
}

function gate(why) {
  $("main").hidden = true;
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
    setToken("");
    return gate(error instanceof Refused ? `${error.message}; ${error.remedy}.` : "The server does not answer.");
  }
  $("gate").hidden = true;
  $("main").hidden = false;
  for (const id of ["estop", "release", "start", "stop"]) {
    $(id).disabled = !may("operator");
    $(id).title = may("operator") ? "" : "needs the token of an operator";
  }
  $("export").disabled = !may("reviewer");
  new Stream(take, (state, error) => {
    $("connection").className = `dot ${state === "open" ? "good" : "bad"}`;
    if (state === "refused") gate(`${error.message}; ${error.remedy}.`);
    if (state === "closed" && error.message) say(error.message, true);
  });
  return undefined;
}

window.addEventListener("resize", () => {
  motion($("motion"), history, last.chunk);
  if (last.histogram) histogram($("histogram"), last.histogram.edges, last.histogram.counts);
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.dispatchEvent(new Event("resize")));
begin();
