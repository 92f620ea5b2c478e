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

export async function request(path, body) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEY) || ""}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(`/api/live${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
  }).catch(() => {
    throw new Refused(0, { code: "unreachable", message: "the server does not answer", remedy: "see whether it still runs" });
  });
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => ({})));
  const kind = response.headers.get("content-type") || "";
  return kind.startsWith("application/json") ? response.json() : response.blob();
}

// One frame is asked for when the one before has been drawn. A hidden tab draws nothing, so it asks for nothing, and
// the node then gives up its subscriptions.
export class Stream {
  constructor(onFrame, onState) {
    this.onFrame = onFrame;
    this.onState = onState;
    this.delay = 500;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/live/stream`);
    this.socket = socket;
    let first = true; // the first frame of a connection tells again what the page may know already
    socket.onopen = () => {
      socket.send(JSON.stringify({ token: sessionStorage.getItem(KEY) || "" }));
      this.next(socket);
    };
    socket.onmessage = (event) => {
      const frame = JSON.parse(event.data);
      if (frame.error) {
        this.onState("refused", frame.error);
        return;
      }
      this.delay = 500;
      this.onState("open");
      this.onFrame(frame, first);
      first = false;
      requestAnimationFrame(() => this.next(socket));
    };
    socket.onclose = (event) => {
      if (event.code === 4401 || event.code === 4403) return;
      this.onState("closed", { message: event.reason });
      setTimeout(() => this.open(), this.delay);
      this.delay = Math.min(this.delay * 2, 8000);
    };
  }

  next(socket) {
    if (socket.readyState === WebSocket.OPEN) socket.send('{"next":true,"images":true}');
  }
}
