import { Card, Empty, Facts, Options, Shown, Table, Time, evaluation, html, useData, useState } from "../parts.js";
import { send } from "../api.js";
import { brief, count, duration, short } from "../format.js";
import { amend, href, parameters } from "../router.js";
import { useOperator } from "../replay.js";

const STATES = { proposed: ["batch", "?"], applied: ["passed", "✓"], failed: ["subject", "!"], undone: ["harness", "↶"], over: ["harness", "–"] };
const WHICH = [["", "All"], ["proposed", "Proposed"], ["applied", "Applied"], ["undone", "Undone"], ["over", "Over"], ["failed", "Failed"]];
const words = (text) => text.replaceAll("_", " ");

function State({ state }) {
  const [tone, mark] = STATES[state] ?? STATES.over;
  return html`<span class="badge ${tone}"><span aria-hidden="true">${mark}</span> ${state}</span>`;
}

const took = (milliseconds) => (milliseconds === null || milliseconds === undefined ? html`<span class="muted">–</span>` : duration(milliseconds));

const columns = [
  { title: "Healing", cell: (row) => html`<code>${brief(row.id)}</code>`, class: "id" },
  { title: "State", cell: (row) => html`<${State} state=${row.state} />` },
  { title: "What", cell: (row) => html`<span class="what">${words(row.remedy)} ${row.subject}</span><span class="why">${row.message}</span>`, class: "wide" },
  { title: "By", cell: (row) => row.by ?? html`<span class="muted">–</span>`, class: "hide-narrow" },
  { title: "Took", cell: (row) => took(row.took_ms), class: "hide-narrow" },
  { title: "Found", cell: (row) => html`<${Time} at=${row.found} />`, class: "when" },
];

export function Healings() {
  const { state = "" } = parameters();
  const shown = useData("/v1/healings", { state, limit: 200 });
  return html`<div class="title"><h1>Healings</h1>
      <${Options} label="State" value=${state} options=${WHICH} onChange=${(next) => amend({ state: next || undefined })} /></div>
    <${Shown} of=${shown} rows=${6}>${(data) => html`
      <p class="muted">${count(data.applied)} in force, ${count(data.proposed)} waiting for a person's word. Each can be seen with its evidence; what was done can be undone.</p>
      <${Card}><${Table} label="Healings" columns=${columns} rows=${data.healings} to=${(row) => href(`/healings/${row.id}`)}
        empty=${html`<${Empty} title="No healings" text=${state ? "None is in this state." : "Nothing of the fleet was found not to be well."} />`} /></${Card}>`}</${Shown}>`;
}

/** What a person may say of it: a reason and a button for each, for those who may. */
function Decide({ healing }) {
  const may = useOperator();
  const [state, go] = useState({ at: "rest", reason: "" });
  const say = async (wanted) => {
    go({ at: "saying", reason: state.reason });
    try {
      await send("POST", `/v1/healings/${healing.id}/${wanted}`, { reason: state.reason });
      go({ at: "said", reason: "" });
    } catch (error) {
      go({ at: "rest", reason: state.reason, message: error.message });
    }
  };
  const decided = healing.decision && html`<p>${healing.decision.wanted === "apply" ? "Applying" : "Undoing"} it was wanted by ${healing.decision.by}, <${Time} at=${healing.decision.at} />: ${healing.decision.reason}</p>`;
  const choices = [];
  if (healing.state === "proposed") choices.push(["apply", "Apply"], ["undo", "Decline"]);
  if (healing.state === "applied" && healing.can_undo) choices.push(["undo", "Undo"]);
  if (!may || choices.length === 0) return decided || html`<p class="muted">Nobody has decided anything about it.</p>`;
  return html`${decided}
    ${state.message && html`<p class="notice error" role="alert">${state.message}</p>`}
    ${state.at === "said" ? html`<p role="status" class="muted">It is said, and is carried out once it is recorded.</p>` : html`<p class="chips">
      <input type="text" aria-label="Reason" placeholder="Reason" maxlength="1000" value=${state.reason} onInput=${(event) => go({ at: "rest", reason: event.target.value })} />
      ${choices.map(([wanted, text]) => html`<button type="button" class="button small" disabled=${!state.reason.trim() || state.at === "saying"} onClick=${() => say(wanted)}>${text}</button>`)}</p>`}`;
}

const counted = (one) => (one.count === null ? "" : one.of === null ? `${count(one.count)}: ` : `${count(one.count)} of ${count(one.of)}: `);

export function Healing({ id }) {
  const shown = useData(`/v1/healings/${encodeURIComponent(id)}`);
  return html`<div class="title"><h1>Healing</h1></div>
    <${Shown} of=${shown} rows=${8}>${(data) => html`
      <${Card} title="${words(data.remedy)} ${data.subject}" extra=${html`<${State} state=${data.state} />`}><p>${data.message}</p>
        <${Facts} of=${[
          ["Found by", words(data.detector)],
          ["To be done", data.mode === "act" ? "at once" : "once a person says so"],
          ["Held", data.held],
          ["Changes", data.change && `${short(data.change.from)} to ${short(data.change.to)}`],
          ["Began", html`<${Time} at=${data.since} />`],
          ["Found", html`<${Time} at=${data.found} />`],
          ["Applied", data.applied && html`<${Time} at=${data.applied} /> by ${data.by}, ${duration(data.took_ms)} after it was found`],
          ["Well again", data.well && html`<${Time} at=${data.well} />, ${duration(data.well_ms)} after it was found`],
          ["Ended", data.ended && html`<${Time} at=${data.ended} />${data.undone_by ? ` by ${data.undone_by}` : ""}`],
        ]} /></${Card}>
      <${Card} title="Decision"><${Decide} healing=${data} /></${Card}>
      <${Card} title="What it rests on"><ul class="evidence">${data.evidence.map((one) => html`<li>${counted(one)}${one.text}
        <p class="chips">${one.evaluations.map((of) => html`<a href=${evaluation(of)}><code>${brief(of)}</code></a> `)}</p></li>`)}</ul></${Card}>`}</${Shown}>`;
}
