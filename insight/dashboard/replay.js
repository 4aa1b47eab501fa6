// Replaying dead letters: what would be done is shown before it is done.

import { evaluation, html, useData, useState } from "./parts.js";
import { send } from "./api.js";
import { brief, count } from "./format.js";
import { moment } from "./router.js";

/** Whether whoever looks may change how things run. Nobody changes the past. */
export function useOperator() {
  const { data } = useData("/v1/session", {}, { live: false });
  return data?.role === "operate" && !moment();
}

const letters = (number) => (number === 1 ? "1 letter" : `${count(number)} letters`);

/** Says how many of the refused there are, and why the first of them is. */
function Refused({ of }) {
  return of.length > 0 && html`<span class="muted"> ${letters(of.length)} refused: ${of[0].refused}</span>`;
}

/** A button that replays the letters of these jobs, at its second click: the first one says what it would do. */
export function Replay({ ids, text }) {
  const [state, go] = useState({ at: "rest" });
  const ask = async (dry) => {
    go({ at: "asking", text: dry ? "Looking…" : "Replaying…" });
    try {
      const answer = await send("POST", "/v1/dead-letters/replay", { ids, dry_run: dry });
      const refused = answer.letters.filter((letter) => letter.refused);
      go({ at: dry ? "planned" : "done", fit: answer.letters.filter((letter) => letter.job), refused });
    } catch (error) {
      go({ at: "failed", message: error.message });
    }
  };
  const rest = () => go({ at: "rest" });
  switch (state.at) {
    case "asking":
      return html`<span role="status" class="muted">${state.text}</span>`;
    case "planned":
      return html`<span role="status">${state.fit.length ? html`<button type="button" class="button primary small" onClick=${() => ask(false)}>Replay ${letters(state.fit.length)}</button> ` : "Nothing to replay. "}
        <button type="button" class="button small" onClick=${rest}>Cancel</button><${Refused} of=${state.refused} /></span>`;
    case "done":
      return html`<span role="status">${state.fit.length === 1 ? html`Replayed as <a href=${evaluation(state.fit[0].job)}><code>${brief(state.fit[0].job)}</code></a>` : `${letters(state.fit.length)} replayed`}.<${Refused} of=${state.refused} /></span>`;
    case "failed":
      return html`<span role="alert" class="notice error">${state.message} <button type="button" class="button small" onClick=${rest}>Back</button></span>`;
    default:
      return html`<button type="button" class="button small" onClick=${() => ask(true)}>${text}</button>`;
  }
}
