// Running again what was evaluated or given up: what would be done is shown before it is done, and how far it is.

import { evaluation, html, useData, useEffect, useState } from "./parts.js";
import { listen, send } from "./api.js";
import { brief, count } from "./format.js";
import { moment } from "./router.js";

/** Letters of one request: it is answered when all are done. */
const AT_ONCE = 100;

function useRole() {
  const { data } = useData("/v1/session", {}, { live: false });
  return moment() ? "read" : data?.role;
}

/** Whether whoever looks may change how things run. Nobody changes the past. */
export const useOperator = () => useRole() === "operate";

/** Whether whoever looks may submit jobs. */
export const useSubmitter = () => ["submit", "operate"].includes(useRole());

const letters = (number) => (number === 1 ? "1 letter" : `${count(number)} letters`);

/** Says how many of the refused there are, and why the first of them is. */
function Refused({ of }) {
  return of.length > 0 && html`<span class="muted"> ${letters(of.length)} refused: ${of[0].refused}</span>`;
}

/** Replays letters, so many at a time, and tells `told` how many are done. A name of its own tells its news from others'. */
async function replay(ids, { dry, force, told }) {
  const answers = [];
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    const order = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
    const end = listen((kind, data) => kind === "handled" && data.order === order && told(at + data.done));
    try {
      const some = ids.slice(at, at + AT_ONCE);
      answers.push(...(await send("POST", "/v1/dead-letters/replay", { ids: some, dry_run: dry, force: Boolean(force), order })).letters);
      told(at + some.length);
    } finally {
      end();
    }
  }
  return answers;
}

/** How far a replay is: letters sent, and, where `came` tells it, results that came of them. */
export function Progress({ done, of, came }) {
  const results = came && Object.values(came).reduce((sum, number) => sum + number, 0);
  const words = came ? `${count(results)} of ${count(of)} results are there${results ? `: ${Object.entries(came).map(([outcome, number]) => `${count(number)} ${outcome}`).join(", ")}` : ""}` : `${count(done)} of ${count(of)} replayed`;
  return html`<span class="progress" role="status"><progress max=${of} value=${came ? results : done} aria-label="How far the replay is"></progress><span>${words}</span></span>`;
}

/**
 * A button that replays these letters at its second click: the first one says what it would do. `find` gives their ids,
 * `came` how many of the replayed jobs came to what (asked with the ids of the jobs).
 */
export function Replay({ ids, text, find = () => ids, idle, force, came }) {
  const [state, go] = useState({ at: "rest" });
  const ask = async (dry, wanted) => {
    go({ at: "asking", dry, done: 0, of: wanted?.length ?? 0 });
    try {
      const all = wanted ?? (await find());
      const told = (done) => go((now) => (now.at === "asking" ? { ...now, done: Math.max(now.done, done), of: all.length } : now));
      const answer = await replay(all, { dry, force, told });
      const refused = answer.filter((letter) => letter.refused);
      go({ at: dry ? "planned" : "done", fit: answer.filter((letter) => letter.job), refused });
    } catch (error) {
      go({ at: "failed", message: error.message });
    }
  };
  const rest = () => go({ at: "rest" });
  switch (state.at) {
    case "asking":
      return state.dry || state.of < 2 ? html`<span role="status" class="muted">${state.dry ? "Looking…" : "Replaying…"}</span>` : html`<${Progress} done=${state.done} of=${state.of} />`;
    case "planned":
      return html`<span role="status">${state.fit.length ? html`<button type="button" class="button primary small" onClick=${() => ask(false, state.fit.map((letter) => letter.id))}>Replay ${letters(state.fit.length)}</button> ` : "Nothing to replay. "}
        <button type="button" class="button small" onClick=${rest}>Cancel</button><${Refused} of=${state.refused} /></span>`;
    case "done":
      return html`<span role="status">${state.fit.length === 1 ? html`Replayed as <a href=${evaluation(state.fit[0].job)}><code>${brief(state.fit[0].job)}</code></a>` : `${letters(state.fit.length)} replayed`}.<${Refused} of=${state.refused} /></span>
        ${came && state.fit.length > 1 && html` <${Progress} of=${state.fit.length} came=${came(state.fit.map((letter) => letter.id))} />`}`;
    case "failed":
      return html`<span role="alert" class="notice error">${state.message} <button type="button" class="button small" onClick=${rest}>Back</button></span>`;
    default:
      return html`<button type="button" class="button small" disabled=${idle} onClick=${() => ask(true)}>${text}</button>`;
  }
}

/** A button that submits the job of an evaluation again; `why` says why that cannot be. */
export function Again({ id, why }) {
  const may = useSubmitter();
  const [state, go] = useState({ at: "rest" });
  useEffect(() => go({ at: "rest" }), [id]);
  const ask = async () => {
    go({ at: "asking" });
    try {
      const answer = await send("POST", `/v1/evaluations/${encodeURIComponent(id)}/replay`);
      go({ at: "done", job: answer?.ids?.[0] });
    } catch (error) {
      go({ at: "failed", message: error.message });
    }
  };
  if (!may) return null;
  if (state.at === "done") return html`<span role="status">Runs again as <a href=${evaluation(state.job)}><code>${brief(state.job)}</code></a></span>`;
  return html`<button type="button" class="button small" disabled=${Boolean(why) || state.at === "asking"} title=${why ?? "Submits the same job again, in the same image"} onClick=${ask}>${state.at === "asking" ? "Submitting…" : "Run again"}</button>
    ${state.at === "failed" && html`<span class="notice error" role="alert">${state.message}</span>`}`;
}
