import { Card, Empty, Facts, Options, Rate, Shown, Table, Time, evaluation, html, useData, useState } from "../parts.js";
import { send } from "../api.js";
import { brief, bytes, count, duration, short } from "../format.js";
import { amend, href, parameters } from "../router.js";
import { useOperator } from "../replay.js";

const STATES = { confirming: ["batch", "…"], raised: ["subject", "!"], closed: ["passed", "✓"], dismissed: ["harness", "–"] };
const WHICH = [["", "Told"], ["raised", "Raised"], ["closed", "Closed"], ["confirming", "Confirming"], ["dismissed", "Dismissed"], ["any", "All"]];

function State({ state }) {
  const [tone, mark] = STATES[state] ?? STATES.dismissed;
  return html`<span class="badge ${tone}"><span aria-hidden="true">${mark}</span> ${state}</span>`;
}

const columns = [
  { title: "Alert", cell: (row) => html`<code>${brief(row.id)}</code>`, class: "id" },
  { title: "State", cell: (row) => html`<${State} state=${row.state} />` },
  { title: "About", cell: (row) => html`<span class="what">${row.subject}</span><span class="why">${row.message}</span>`, class: "wide" },
  { title: "New when it began", cell: (row) => (row.culprit ? html`<code>${culprit(row.culprit)}</code>` : html`<span class="muted">–</span>`), class: "hide-narrow" },
  { title: "Judged", cell: (row) => row.judgement?.said ?? html`<span class="muted">–</span>` },
  { title: "Since", cell: (row) => html`<${Time} at=${row.since} />`, class: "when" },
];

function culprit(text) {
  const at = text.indexOf("=");
  return `${text.slice(0, at)} ${short(text.slice(at + 1))}`;
}

export function Alerts() {
  const { state = "" } = parameters();
  const shown = useData("/v1/alerts", { state, limit: 200 });
  return html`<div class="title"><h1>Alerts</h1>
      <${Options} label="State" value=${state} options=${WHICH} onChange=${(next) => amend({ state: next || undefined })} /></div>
    <${Shown} of=${shown} rows=${6}>${(data) => html`
      <p class="muted">${count(data.raised)} raised. Each was confirmed before anyone was told. Right, as people judged them:
        <${Rate} rate=${data.precision.right} label="alerts that were right: " />${data.precision.unjudged > 0 && html` (${count(data.precision.unjudged)} not judged)`}</p>
      <${Card}><${Table} label="Alerts" columns=${columns} rows=${data.alerts} to=${(row) => href(`/alerts/${row.id}`)}
        empty=${html`<${Empty} title="No alerts" text=${state ? "None is in this state." : "Nothing that is evaluated often enough became worse."} />`} /></${Card}>`}</${Shown}>`;
}

const ENDED = ["closed", "dismissed"];

const reruns = (alert) => [
  { title: "Run again as", cell: (row) => html`<code>${brief(row.id)}</code>`, class: "id" },
  { title: "What", cell: (row) => html`<a href=${evaluation(row.of)}><code>${brief(row.of)}</code></a>${row.before ? " (from before)" : ""}${row.between ? html` (<code>${short(row.between)}</code>, in between)` : ""}` },
  { title: "Came out", cell: (row) => row.outcome ?? html`<span class="muted">${ENDED.includes(alert.state) ? "not waited for" : "on its way"}</span>` },
  { title: "By", cell: (row) => row.worker ?? "–" },
];

const AMOUNTS = [["wall_ms", duration, "typically"], ["memory_bytes", bytes, "of memory, typically"], ["disk_bytes", bytes, "written, typically"], ["reset_ms", duration, "for a clean VM, typically"]];

function level(one) {
  const [name, text, what] = AMOUNTS.find(([name]) => typeof one[name] === "number") ?? [];
  return name ? `${text(one[name])} ${what}` : `${count(one.passed)} of ${count(one.tries)} passed`;
}

/** Whether it was right: two buttons and a reason, for those who may. */
function Judge({ id, judgement }) {
  const may = useOperator();
  const [state, go] = useState({ at: "rest", reason: "" });
  const say = async (said) => {
    go({ at: "saying", reason: state.reason });
    try {
      await send("POST", `/v1/alerts/${id}/judge`, { judgement: said, reason: state.reason });
      go({ at: "said", reason: "" });
    } catch (error) {
      go({ at: "rest", reason: state.reason, message: error.message });
    }
  };
  const judged = judgement && html`<p>Judged <strong>${judgement.said}</strong> by ${judgement.by}, <${Time} at=${judgement.at} />: ${judgement.reason}</p>`;
  if (!may) return judged || html`<p class="muted">Nobody has judged it yet.</p>`;
  return html`${judged}
    ${state.message && html`<p class="notice error" role="alert">${state.message}</p>`}
    ${state.at === "said" ? html`<p role="status" class="muted">It is said.</p>` : html`<p class="chips">
      <input type="text" aria-label="Reason" placeholder="Reason" maxlength="1000" value=${state.reason} onInput=${(event) => go({ at: "rest", reason: event.target.value })} />
      ${["right", "wrong"].map((said) => html`<button type="button" class="button small" disabled=${!state.reason.trim() || state.at === "saying"} onClick=${() => say(said)}>${said === "right" ? "Right" : "Wrong"}</button>`)}</p>`}`;
}

export function Alert({ id }) {
  const shown = useData(`/v1/alerts/${encodeURIComponent(id)}`);
  return html`<div class="title"><h1>Alert</h1></div>
    <${Shown} of=${shown} rows=${8}>${(data) => html`
      <${Card} title=${data.subject} extra=${html`<${State} state=${data.state} />`}><p>${data.message}</p>
        <${Facts} of=${[
          ["Severity", data.severity],
          ["Cases", data.cases.join(", ")],
          ["Before", level(data.before)],
          ["Since", level(data.after)],
          ["On", data.accelerator],
          ["All came from", data.suspect && `${data.suspect}: what it ran again did not count`],
          ["New when it began", data.culprit && `${data.culprit.attribute} ${short(data.culprit.value)} (before: ${short(data.culprit.before)})`],
          ["Began", html`<${Time} at=${data.since} />`],
          ["Suspected", html`<${Time} at=${data.suspected} />`],
          ["Confirmed", data.confirmed && html`<${Time} at=${data.confirmed} /> by ${data.confirmed_by}`],
          ["Ended", data.closed && html`<${Time} at=${data.closed} />`],
          ["Cost", data.cost.reruns > 0 ? `${count(data.cost.reruns)} reruns, ${duration(data.cost.worker_ms)} of workers' time` : null],
        ]} /></${Card}>
      ${["raised", "closed"].includes(data.state) && html`<${Card} title="Was it right?"><${Judge} id=${id} judgement=${data.judgement} /></${Card}>`}
      ${data.reruns.length > 0 && html`<${Card} title="Run again"><${Table} label="Run again" columns=${reruns(data)} rows=${data.reruns} to=${(row) => evaluation(row.id)} /></${Card}>`}
      <${Card} title="What it rests on"><p class="chips">${data.evaluations.map((one) => html`<a href=${evaluation(one)}><code>${brief(one)}</code></a> `)}</p></${Card}>`}</${Shown}>`;
}
