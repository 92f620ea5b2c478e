// Requests to /api/labeling with the token of this tab. The token is never part of an address that leaves the browser.

const BASE = "/api/labeling/";
const KEY = "flow_rag_vla.token";

export class Refused extends Error {
  constructor(status, body) {
    super(body.remedy ? `${body.message}: ${body.remedy}` : body.message);
    this.status = status;
    this.code = body.code;
  }
}

// A link that a person was given carries the token behind the #, which browsers do not send.
export function tokenFromLink() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(KEY);
}

export function keepToken(token) {
  sessionStorage.setItem(KEY, token);
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
}

async function ask(path, { method = "GET", body, version } = {}) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` };
  const form = body instanceof FormData; // the browser names its kind, with the boundary
  if (body !== undefined && !form) headers["Content-Type"] = "application/json";
  if (version !== undefined) headers["If-Match"] = `"${version}"`;
  let answer;
  try {
    answer = await fetch(BASE + path, { method, headers, body: body === undefined || form ? body : JSON.stringify(body) });
  } catch {
    throw new Refused(0, { code: "unreachable", message: "the server does not answer" });
  }
  if (answer.ok) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => ({ code: "refused", message: answer.statusText })));
}

export async function json(path, options) {
  return (await ask(path, options)).json();
}

export async function picture(path) {
  return createImageBitmap(await (await ask(path)).blob());
}

export async function blobAddress(path) {
  return URL.createObjectURL(await (await ask(path)).blob());
}

// The newest `size` results of an asynchronous function, by its argument.
export function remembered(make, size, drop = () => {}) {
  const kept = new Map();
  return (key) => {
    if (kept.has(key)) {
      const value = kept.get(key);
      kept.delete(key);
      kept.set(key, value);
      return value;
    }
    const made = make(key);
    made.catch(() => kept.delete(key));
    kept.set(key, made);
    if (kept.size > size) {
      const [oldest, value] = kept.entries().next().value;
      kept.delete(oldest);
      value.then(drop, () => {});
    }
    return made;
  };
}
