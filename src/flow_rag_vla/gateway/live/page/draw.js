// Canvases. Colours come from the style sheet, so both themes are drawn right.

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  context.lineJoin = "round";
  return { context, width, height };
}

export function line(context, points, stroke, width = 1.6, dash = []) {
  context.beginPath();
  let pen = false;
  for (const [x, y] of points) {
    if (x === null || y === null || Number.isNaN(x) || Number.isNaN(y)) {
      pen = false;
      continue;
    }
    if (pen) context.lineTo(x, y);
    else context.moveTo(x, y);
    pen = true;
  }
  context.strokeStyle = stroke;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

const PAST_MS = 10000;
const AHEAD_MS = 600;
const GAP_MS = 150; // further apart than this, commands are no course: nobody saw what was between
const AXES = ["x", "y", "z"];
const STEPS = [1, 2, 4, 6, 8, 10, 12, 16, 20];

// history: {t, action, mode, correction} arrays; chunk: the newest plan, or null.
export function motion(canvas, history, chunk) {
  const { context, width, height } = prepare(canvas);
  const left = 34;
  const strip = 10;
  const gripperHeight = 34;
  const bottom = height - 18;
  const plotBottom = bottom - strip - gripperHeight - 14;
  const now = history.t.length ? history.t[history.t.length - 1] : 0;
  const x = (t) => left + ((t - now + PAST_MS) / (PAST_MS + AHEAD_MS)) * (width - left - 6);
  let most = 1;
  for (const action of history.action) for (let i = 0; i < 3; i++) most = Math.max(most, Math.abs(action[i]) * 1000);
  if (chunk) for (const row of chunk.actions) for (let i = 0; i < 3; i++) most = Math.max(most, Math.abs(row[i]) * 1000);
  const limit = STEPS.find((step) => step >= most) || Math.ceil(most);
  const middle = plotBottom / 2 + 4;
  const y = (metres) => (metres === null ? null : middle - ((metres * 1000) / limit) * (plotBottom / 2 - 6));

  context.fillStyle = colour("faint");
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const value of [-limit, -limit / 2, 0, limit / 2, limit]) {
    line(context, [[left, y(value / 1000)], [width - 6, y(value / 1000)]], colour("grid"), 1);
    context.fillText(String(value), left - 6, y(value / 1000));
  }
  context.textAlign = "left";
  context.fillText("mm per tick", left + 4, 8);
  context.textAlign = "center";
  for (let seconds = -10; seconds <= 0; seconds += 2) context.fillText(seconds ? `${seconds} s` : "now", x(now + seconds * 1000), height - 7);
  if (!history.t.length) return;

  const gTop = plotBottom + 10;
  const gy = (opening) => gTop + gripperHeight - 4 - opening * (gripperHeight - 8);
  line(context, [[left, gy(0)], [width - 6, gy(0)]], colour("grid"), 1);
  line(context, [[left, gy(1)], [width - 6, gy(1)]], colour("grid"), 1);
  context.textAlign = "right";
  context.fillText("open", left - 6, gy(1));
  context.fillText("shut", left - 6, gy(0));

  context.save();
  context.beginPath();
  context.rect(left, 0, width - left, height);
  context.clip();
  const course = (height) => history.t.flatMap((t, i) => (i && t - history.t[i - 1] > GAP_MS ? [[null, null], [x(t), height(i)]] : [[x(t), height(i)]]));
  AXES.forEach((name, axis) => line(context, course((i) => y(history.action[i][axis])), colour(name)));
  line(context, course((i) => gy(history.action[i][6])), colour("g"), 1.8);

  const tones = { follow: "good", takeover: "accent", hold: "warn", decelerate: "warn", stop: "bad", emergency_stop: "bad" };
  for (let i = 0; i + 1 < history.t.length; i++) {
    const begin = x(history.t[i]);
    const end = Math.max(x(Math.min(history.t[i + 1], history.t[i] + GAP_MS)), begin + 0.6);
    if (end < left) continue;
    context.fillStyle = colour(tones[history.mode[i]] || "line");
    context.globalAlpha = 0.75;
    context.fillRect(begin, bottom - strip, end - begin + 0.3, 4);
    if (history.correction[i] > 0 && history.correction[i] < 6) {
      context.fillStyle = colour("memory");
      context.fillRect(begin, bottom - strip + 5, end - begin + 0.3, 4);
    }
    context.globalAlpha = 1;
  }
  context.restore();

  line(context, [[x(now), 2], [x(now), bottom]], colour("faint"), 1, [3, 3]);
  if (!chunk) return;
  const rows = chunk.actions.map((row, i) => [chunk.t + i * chunk.period, row]).filter(([t]) => t >= now && t <= now + AHEAD_MS);
  AXES.forEach((name, axis) => line(context, rows.map(([t, row]) => [x(t), y(row[axis])]), colour(name), 1.6, [2, 3]));
  line(context, rows.map(([t, row]) => [x(t), gy(row[6])]), colour("g"), 1.6, [2, 3]);
}

export function histogram(canvas, edges, counts) {
  const { context, width, height } = prepare(canvas);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const bottom = height - 18;
  const slot = width / counts.length;
  const most = Math.max(...counts, 1);
  context.textAlign = "center";
  line(context, [[0, bottom], [width, bottom]], colour("line"), 1);
  counts.forEach((count, i) => {
    const size = (count / most) * (bottom - 18);
    context.fillStyle = colour(edges[i] >= 12.5 ? "bad" : "accent");
    context.globalAlpha = edges[i] >= 12.5 ? 1 : 0.8;
    if (count) {
      context.beginPath();
      context.roundRect(i * slot + 3, bottom - Math.max(size, 1.5), slot - 6, Math.max(size, 1.5), [3, 3, 0, 0]);
      context.fill();
    }
    context.globalAlpha = 1;
    context.fillStyle = colour("soft");
    const share = (100 * count) / total;
    if (count) context.fillText(share >= 1 ? `${share.toFixed(0)} %` : String(count), (i + 0.5) * slot, bottom - Math.max(size, 1.5) - 5);
    context.fillStyle = colour("faint");
    const unit = slot < 44 ? "" : " ms";
    context.fillText(i + 1 < edges.length ? `${edges[i]}` : `${edges[i]}+${unit}`, i * slot + slot / 2, height - 5);
  });
  if (!total) {
    context.fillStyle = colour("faint");
    context.fillText("no commands yet", width / 2, bottom / 2);
  }
}

export function overlay(canvas, picture) {
  const { context, width, height } = prepare(canvas);
  const place = (points) => points.map(([u, v]) => [u === null ? null : u * width, v === null ? null : v * height]);
  if (picture.correction) {
    line(context, place(picture.correction), "rgb(255 255 255 / .75)", 4.5);
    line(context, place(picture.correction), colour("memory"), 2.5);
  }
  if (picture.path) {
    line(context, place(picture.path), "rgb(255 255 255 / .75)", 5);
    line(context, place(picture.path), colour("accent"), 3);
  }
  if (picture.target && picture.target[0] !== null) {
    const [[x, y]] = place([picture.target]);
    context.beginPath();
    context.arc(x, y, 4.5, 0, 7);
    context.fillStyle = "white";
    context.fill();
    context.lineWidth = 2.5;
    context.strokeStyle = colour("accent");
    context.stroke();
  }
}

// A stored plan: three components over its rows.
export function plan(canvas, rows) {
  const { context, width, height } = prepare(canvas);
  let most = 1;
  for (const row of rows) for (let i = 0; i < 3; i++) most = Math.max(most, Math.abs(row[i]) * 1000);
  const y = (metres) => height / 2 - ((metres * 1000) / most) * (height / 2 - 14);
  const x = (i) => 28 + (i / Math.max(rows.length - 1, 1)) * (width - 34);
  context.fillStyle = colour("faint");
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const value of [-most, 0, most]) {
    line(context, [[28, y(value / 1000)], [width, y(value / 1000)]], colour("grid"), 1);
    context.fillText(value ? value.toFixed(0) : "0", 24, y(value / 1000));
  }
  AXES.forEach((name, axis) => line(context, rows.map((row, i) => [x(i), y(row[axis])]), colour(name), 2));
}
