// Asks the API, always as of the moment that the page's address names, and listens to what happens now.

import { moment } from "./router.js";

export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

/** GET as JSON. `parameters` with no value are left out; `as_of` is the page's unless given. */
export async function get(path, parameters = {}, signal) {
  const query = new URLSearchParams();
  const asked = { as_of: moment(), ...parameters };
  for (const [name, value] of Object.entries(asked)) {
    if (value !== undefined && value !== null && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return send("GET", path + (text ? `?${text}` : ""), undefined, signal);
}

export async function send(method, path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: { accept: "application/json", ...(body && { "content-type": "application/json" }) },
      body: body && JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "The API does not answer. Is it running? `evalfleet status` says.");
  }
  if (response.status === 204 || response.status === 202) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, answer.title ?? response.statusText, answer.detail);
  return answer;
}

// One stream for the whole page, however many parts of it listen.
const listeners = new Set();
let source = null;
let state = "off";

function tell(kind, data) {
  for (const listener of listeners) listener(kind, data);
}

function change(next) {
  if (state !== next) {
    state = next;
    tell("state", state);
  }
}

function open() {
  source = new EventSource("/v1/events");
  source.onopen = () => change("live");
  // The browser tries again by itself; a refusal ends it, and is tried again here.
  source.onerror = () => {
    change("lost");
    if (source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(() => listeners.size && !source && open(), 5000);
    }
  };
  for (const kind of ["recorded", "job", "handled", "missed"]) {
    source.addEventListener(kind, (event) => tell(kind, JSON.parse(event.data)));
  }
}

/** Hears `(kind, data)` until the returned function is called. */
export function listen(listener) {
  listeners.add(listener);
  if (!source) open();
  return () => {
    listeners.delete(listener);
    if (!listeners.size && source) {
      source.close();
      source = null;
      state = "off";
    }
  };
}

export const live = () => state;
