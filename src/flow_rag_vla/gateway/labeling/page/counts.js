// How many objects there are, of which class, and how many of them were judged.

import { element, make } from "./elements.js";
import { colourOf } from "./view.js";
import { STATES } from "./words.js";

export function progress(counts) {
  const judged = counts.objects - (counts.by_state.unreviewed ?? 0);
  element("progress-bar").style.width = `${(100 * judged) / Math.max(1, counts.objects)}%`;
  element("progress-text").textContent = `${judged} of ${counts.objects}`;
  const states = Object.entries(counts.by_state).filter(([, count]) => count);
  const said = states.map(([state, count]) => `${count} ${STATES[state] ?? state}`).join(", ");
  element("statistics").textContent = `${counts.images} pictures, ${counts.objects} objects: ${said || "none"}`;
}

// Neither is known: nothing stands there.
export function uncount() {
  element("progress-bar").style.width = "0";
  for (const id of ["progress-text", "statistics", "distribution"]) element(id).replaceChildren();
}

export function distribution(names, total, categories) {
  const most = Math.max(1, ...names.map(([, count]) => count));
  element("distribution").replaceChildren(...names.flatMap(([name, count]) => {
    const bar = make("div", { className: "bar" }, make("div"));
    bar.firstChild.style.width = `${(100 * count) / most}%`;
    bar.firstChild.style.background = colourOf(categories, name);
    bar.title = `${((100 * count) / Math.max(1, total)).toFixed(1)} %`;
    return [make("span", {}, name), bar, make("span", { className: "count" }, String(count))];
  }));
}
