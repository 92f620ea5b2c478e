// The token, requests, and the stream. The token stays in this tab: in no cookie, no address and no disk.

const KEY = "flow_rag_vla_token";

export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY);
}

export function setToken(token) {
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}

export class Refused extends Error {
  constructor(status, body) {
    super(body.message || `status ${status}`);
    this.status = status;
    this.code = body.code;
    this.remedy = body.remedy || "";
  }
}

// What went wrong, and what helps, for a person.
export function told(error) {
  if (!(error instanceof Refused)) return String(error);
  return error.remedy ? `${error.message}; ${error.remedy}` : error.message;
}

const PATIENCE_MS = 15000; // the server waits 10 s for a node, and then says so
export const DOWNLOAD_MS = 120000;

export async function request(path, body, patience = PATIENCE_MS) {
  const silent = () => {
    throw new Refused(0, { code: "unreachable", message: "the server does not answer", remedy: "see whether it still runs" });
  };
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEY) || ""}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(`/api/live${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    signal: AbortSignal.timeout(patience),
  }).catch(silent);
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => ({})));
  const kind = response.headers.get("content-type") || "";
  return (kind.startsWith("application/json") ? response.json() : response.blob()).catch(silent);
}

// A network that goes away, or a computer that sleeps, ends a connection without a word: after this long it is given up.
const DEAD_MS = 10000;

// One frame is asked for when the one before has been drawn. A hidden tab draws nothing, so it asks for nothing, and
// the node then gives up its subscriptions.
export class Stream {
  constructor(onFrame, onState) {
    this.onFrame = onFrame;
    this.onState = onState;
    this.delay = 500;
    document.addEventListener("visibilitychange", this.touched = () => { this.heard = Date.now(); });
    this.watch = setInterval(() => this.check(), 1000);
    this.open();
  }

  open() {
    clearTimeout(this.later);
    this.heard = Date.now();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/live/stream`);
    this.socket = socket;
    let first = true; // the first frame of a connection tells again what the page may know already
    socket.onopen = () => {
      if (socket !== this.socket) return;
      socket.send(JSON.stringify({ token: sessionStorage.getItem(KEY) || "" }));
      this.next(socket);
    };
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      this.heard = Date.now();
      const frame = JSON.parse(event.data);
      if (frame.error) {
        this.end();
        this.onState("refused", new Refused(401, frame.error));
        return;
      }
      this.delay = 500;
      this.onState("open");
      requestAnimationFrame(() => this.next(socket)); // before it is drawn: what cannot be drawn must not end the stream
      const fresh = first;
      first = false;
      this.onFrame(frame, fresh);
    };
    socket.onclose = (event) => {
      if (socket !== this.socket) return;
      this.socket = null;
      this.onState("closed", { message: event.reason });
      this.later = setTimeout(() => this.open(), this.delay);
      this.delay = Math.min(this.delay * 2, 8000);
    };
  }

  check() {
    if (!this.socket || document.hidden || Date.now() - this.heard < DEAD_MS) return;
    const dead = this.socket;
    this.open();
    dead.close();
  }

  end() {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.later);
    clearInterval(this.watch);
    document.removeEventListener("visibilitychange", this.touched);
    if (socket) socket.close();
  }

  next(socket) {
    if (socket === this.socket && socket.readyState === WebSocket.OPEN) socket.send('{"next":true,"images":true}');
  }
}
