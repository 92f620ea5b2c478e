// What the page says of an object: its state, and why it is where it is in a ranked queue.

export const STATES = { unreviewed: "not reviewed", accepted: "accepted", relabelled: "corrected", rejected: "rejected" };

export function saidOf(item) {
  if (item.state !== "unreviewed") return STATES[item.state];
  if (item.why?.reason) return item.why.reason;
  if (item.why?.suggested && item.why.suggested !== item.category) return `like ${item.why.suggested}`;
  return STATES[item.state];
}

export function whyOf({ why: found }) {
  if (!found) return {};
  const share = (value) => `${Math.round(100 * value)} %`;
  if (found.suggested !== undefined) {
    const model = found.model === null ? "" : `, by the model ${share(found.model)}`;
    return { mistaken: `${share(found.score)}: by look-alikes ${share(found.neighbours)}${model}`, "look-alikes": found.suggested };
  }
  const parts = `unsure ${share(found.uncertainty)}, typical ${share(found.typicality)}, new ${share(found.novelty)}`;
  return { failure: found.reason, useful: parts };
}
