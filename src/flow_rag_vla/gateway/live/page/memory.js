// The memory browser: look, edit, retire, export. Everything is text: nothing from a case is ever taken as HTML.

import { DOWNLOAD_MS, request, told } from "./wire.js";
import { plan } from "./draw.js";

const PAGE = 12;
const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function words(name) {
  return name.replaceAll("_", " ");
}

// A number that is none (the server sends null for it) is said to be unknown.
export function fixed(value, digits) {
  return typeof value === "number" ? value.toFixed(digits) : "?";
}

export class Memory {
  constructor(say, may) {
    this.say = say;
    this.may = may;
    this.offset = 0;
    this.known = null;
    this.asked = 0;
    this.types = [];
    this.item = null;
    this.rows = new Map(); // by what they say: a row that stays is the same one, and can be clicked
    this.behind = false;
    for (const name of ["pointerleave", "focusout"]) $("cases").addEventListener(name, () => setTimeout(() => this.behind && this.renew()));
    $("filters").addEventListener("submit", (event) => {
      event.preventDefault();
      this.offset = 0;
      this.show();
    });
    $("newer").addEventListener("click", () => this.turn(-PAGE));
    $("older").addEventListener("click", () => this.turn(PAGE));
    $("export").addEventListener("click", () => this.attempt(() => this.export()));
    $("case-close").addEventListener("click", () => this.close());
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    window.addEventListener("resize", () => $("case").open && this.plot());
  }

  setTypes(types) {
    this.types = types;
    const chosen = $("filter-type").value;
    $("filter-type").replaceChildren($("filter-type").options[0], ...types.map((name) => element("option", { value: name, textContent: words(name) })));
    $("filter-type").value = chosen;
  }

  // The list is asked for again only when the memory says that something changed.
  changed(statistics) {
    const known = `${statistics.cases}/${statistics.retired}/${statistics.added}`;
    $("memory-note").textContent =
      `${statistics.cases} cases, ${statistics.retired} retired, ${statistics.corrections} corrections given, ` +
      `search ${fixed(statistics.search_p99_ms, 2)} ms (p99)`;
    if (known !== this.known) {
      this.known = known;
      this.renew();
    }
  }

  // Cases may come faster than a hand moves: what somebody is about to choose from stays where it is.
  renew() {
    this.behind = $("cases").matches(":hover") || $("cases").contains(document.activeElement);
    if (this.behind) $("page-note").textContent = "there are newer ones";
    else this.show();
  }

  turn(by) {
    this.offset = Math.max(0, this.offset + by);
    this.show();
  }

  async attempt(work) {
    try {
      return await work();
    } catch (error) {
      this.say(told(error), true);
      return undefined;
    }
  }

  async show() {
    const query = new URLSearchParams({ offset: this.offset, limit: PAGE, retired: $("filter-retired").checked });
    if ($("filter-task").value) query.set("task", $("filter-task").value.trim());
    if ($("filter-phase").value) query.set("phase", $("filter-phase").value.trim());
    if ($("filter-type").value) query.set("failure_type", $("filter-type").value);
    const asked = ++this.asked;
    this.behind = false;
    const answer = await this.attempt(() => request(`/memory/cases?${query}`));
    if (!answer || asked !== this.asked) return; // another page was asked for meanwhile
    if (!answer.cases.length && answer.total && this.offset) {
      // The last page is gone: what stood on it was retired.
      this.offset = PAGE * Math.floor((Math.min(answer.total, this.offset) - 1) / PAGE);
      this.show();
      return;
    }
    const last = this.offset + answer.cases.length;
    $("page-note").textContent = answer.total ? `${this.offset + 1} to ${last} of ${answer.total}` : "no case fits";
    $("newer").disabled = this.offset === 0;
    $("older").disabled = last >= answer.total;
    const rows = new Map(answer.cases.map((item) => {
      const key = JSON.stringify(item);
      return [key, this.rows.get(key) || this.row(item)];
    }));
    this.rows = rows;
    const held = document.activeElement.closest("#cases tr");
    [...rows.values()].forEach((row, at) => row !== $("cases").children[at] && $("cases").insertBefore(row, $("cases").children[at] || null));
    while ($("cases").children.length > rows.size) $("cases").lastElementChild.remove();
    const again = held && !held.contains(document.activeElement) && $("cases").querySelector(`[data-id="${held.dataset.id}"] button`);
    if (again) again.focus();
  }

  row(item) {
    const cells = [
      new Date(item.created).toLocaleString([], { dateStyle: "short", timeStyle: "medium" }), words(item.type), words(item.task), item.phase,
      item.has_correction ? words(item.correction_source || "known") : "none", item.uses, item.successes,
      item.retired ? `retired: ${item.retired_reason}` : item.note,
    ];
    const row = element("tr", { className: item.retired ? "retired" : "" });
    row.dataset.id = item.id;
    const open = element("button", { type: "button", className: "link", textContent: item.id });
    open.setAttribute("aria-label", `open case ${item.id}`);
    row.append(element("td", {}, open), ...cells.map((text, i) => element("td", { textContent: text, className: i === 5 || i === 6 ? "number" : "" })));
    row.lastElementChild.title = row.lastElementChild.textContent; // it is cut where it is long
    row.addEventListener("click", () => this.open(item.id));
    return row;
  }

  async open(id) {
    const item = await this.attempt(() => request(`/memory/cases/${id}`));
    if (!item) return;
    this.fill(item);
    if (!$("case").open) {
      $("case").show(); // as a modal one it would take the emergency stop away
      $("main").inert = true; // what lies below it
    }
    this.plot();
  }

  close() {
    if (!$("case").open) return;
    $("main").inert = false; // first: the focus goes back to where it came from
    $("case").close();
    const row = document.activeElement === document.body && $("cases").querySelector(`[data-id="${this.item.id}"] button`);
    if (row) row.focus();
  }

  fill(item) {
    this.item = item;
    const held = $("case-body").contains(document.activeElement) ? document.activeElement.textContent : null;
    $("case-title").textContent = `Case ${item.id}: ${words(item.type)} in ${words(item.task)}, ${item.phase}`;
    const part = (title, wide, ...children) => element("section", { className: wide ? "wide" : "" }, element("h3", { textContent: title }), ...children);
    const list = (texts, none) =>
      texts.length ? element("ul", {}, ...texts.map((text) => element("li", { textContent: text }))) : element("span", { className: "note", textContent: none });
    const axes = element("span", { className: "legend" }, ...["x", "y", "z"].map((axis) => element("span", {}, element("i", { className: `key ${axis}` }), `d${axis}`)));
    const note = element("textarea", { value: item.note, maxLength: 2000, disabled: !this.may("reviewer") });
    note.setAttribute("aria-label", "Note");
    const type = element("select", { disabled: !this.may("reviewer") }, ...this.types.map((name) => element("option", { value: name, textContent: words(name), selected: name === item.type })));
    type.setAttribute("aria-label", "Failure type");
    const button = (text, work, off = false) => {
      const made = element("button", { type: "button", textContent: text, disabled: off || !this.may("reviewer") });
      made.addEventListener("click", () => this.attempt(work));
      return made;
    };
    const change = async (what, path, body) => {
      const changed = await request(`/memory/cases/${item.id}/${path}`, body);
      this.say(what);
      this.fill(changed);
      this.plot();
      this.show();
    };
    const plot = (id, label) => {
      const made = element("canvas", { className: "plot", id });
      made.setAttribute("role", "img");
      made.setAttribute("aria-label", label);
      return made;
    };
    const reason = element("input", { placeholder: "why", maxLength: 500, disabled: !this.may("reviewer") });
    reason.setAttribute("aria-label", "Reason");
    $("case-body").replaceChildren(
      part("What the cameras saw", true, ...(item.images.length ? item.images.map((image) => element("img", { src: image.url, alt: image.name })) : [element("span", { className: "note", textContent: "no pictures were kept" })])),
      part("What failed, mm per tick over the rows of its chunk", false, plot("plan-failed", "The plan that failed: dx, dy and dz over its rows, mm per tick"), axes),
      part(item.correction.length ? `What would have been right (${words(item.correction_source)})` : "No correction is known", false, ...(item.correction.length ? [plot("plan-right", "The correction: dx, dy and dz over its rows, mm per tick")] : [])),
      part("Evidence", false, list(item.evidence.map((entry) => `${words(entry.name)} ${short(entry.value)} ${entry.unit}, threshold ${short(entry.threshold)}`), "none")),
      part("Worth", false, list([`${item.uses} uses, ${item.successes} led to success`, ...item.credits.map((entry) => `${entry.origin}: ${entry.uses} uses, ${entry.successes} successes`)], "")),
      part("Note and type", true, note, element("div", { className: "actions" }, type,
        button("Save", () => change("saved", "edit", { note: note.value, failure_type: type.value })),
        button("Forget correction", () => change("the correction is forgotten", "edit", { forget_correction: true }), !item.correction.length))),
      part(item.retired ? `Retired: ${item.retired_reason}` : "In use", true, element("div", { className: "actions" }, reason,
        button(item.retired ? "Restore" : "Retire", () => change(item.retired ? "back in use" : "retired", "retire", { retired: !item.retired, reason: reason.value })))),
      part("History", true, list(item.history.map((entry) => `${new Date(entry.t).toLocaleString()}: ${entry.change} by ${entry.origin}. ${entry.detail}`), "unchanged since it was made")),
    );
    if (held !== null) ([...$("case-body").querySelectorAll("button")].find((one) => one.textContent === held) || $("case-close")).focus();
  }

  plot() {
    const item = this.item;
    if (item.failed_actions.length) plan($("plan-failed"), item.failed_actions);
    if (item.correction.length) plan($("plan-right"), item.correction);
  }

  async export() {
    const answer = await request("/memory/export", { include_retired: $("filter-retired").checked });
    this.say(`${answer.exported} cases in ${answer.folder}/${answer.file}`);
    const file = await request(`/memory/exports/${answer.file}`, undefined, DOWNLOAD_MS);
    const link = element("a", { href: URL.createObjectURL(file), download: answer.file });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000); // some browsers begin to read it only after the click
  }
}

function short(value) {
  return typeof value !== "number" ? "?" : Number(value.toPrecision(3)).toString();
}
