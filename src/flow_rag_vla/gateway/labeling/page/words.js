// What the page says of an object: its state, and why it is where it is in a ranked queue.

export const STATES = { unreviewed: "not reviewed", accepted: "accepted", relabelled: "corrected", rejected: "rejected" };

export function saidOf(item) {
  if (item.state !== "unreviewed") return STATES[item.state];
  if (item.why?.similarity !== undefined) return `${item.why.similarity.toFixed(2)} alike`;
  if (item.why?.reason) return item.why.reason;
  if (item.why?.suggested && item.why.suggested !== item.category) return `like ${item.why.suggested}`;
  return STATES[item.state];
}

// A time in nanoseconds: of a video since its beginning, of a bag the time of day (UTC) where its clock was set.
export function momentOf(stamp) {
  const SET = 1e17; // three years: no video is that long, and no clock that was set is that early
  return stamp < SET ? `${(stamp / 1e9).toFixed(2)} s` : new Date(stamp / 1e6).toISOString().slice(11, 22);
}

// Whether there are groups, and how much better they part than clouds without any.
export function verdictOf({ groups, strength, silhouette, chance, compared }) {
  const figures = chance || silhouette ? `; silhouette ${silhouette.toFixed(2)}, of clouds without groups at most ${chance.toFixed(2)}` : "";
  const words = {
    clear: `${groups} groups that lie apart`,
    weak: `${groups} groups that run into each other`,
    none: groups === 1 ? "one group: no partition is much better than that of a cloud without groups"
      : `${groups} groups, as asked for, but they part hardly better than a cloud without groups`,
  };
  return `${compared} objects: ${words[strength]}${figures}`;
}

export function whyOf({ why: found }) {
  if (!found) return {};
  const share = (value) => `${Math.round(100 * value)} %`;
  if (found.similarity !== undefined) return { alike: `${found.similarity.toFixed(3)} to the picture` };
  if (found.likeness !== undefined) return { typical: `${found.likeness.toFixed(2)} of its group` };
  if (found.suggested !== undefined) {
    const model = found.model === null ? "" : `, by the model ${share(found.model)}`;
    return { mistaken: `${share(found.score)}: by look-alikes ${share(found.neighbours)}${model}`, "look-alikes": found.suggested };
  }
  const parts = `unsure ${share(found.uncertainty)}, typical ${share(found.typicality)}, new ${share(found.novelty)}`;
  return { failure: found.reason, useful: parts };
}
