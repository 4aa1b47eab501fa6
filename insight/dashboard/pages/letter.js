import { Card, Copy, Empty, Facts, Shown, Table, Time, evaluation, html, tool, useData } from "../parts.js";
import { brief, count } from "../format.js";
import { Replay, useOperator } from "../replay.js";

const STATES = { waiting: ["subject", "!"], replayed: ["passed", "✓"], dropped: ["harness", "–"] };

function State({ state }) {
  const [tone, mark] = STATES[state] ?? STATES.dropped;
  return html`<span class="badge ${tone}"><span aria-hidden="true">${mark}</span> ${state}</span>`;
}

const lineageColumns = [
  { title: "Job", cell: (row) => html`<code>${brief(row.id)}</code>`, class: "id" },
  { title: "Repeats", cell: (row) => (row.replay_of ? html`<a href=${evaluation(row.replay_of)}><code>${brief(row.replay_of)}</code></a>` : html`<span class="muted">–</span>`) },
  { title: "Came to", cell: (row) => row.status?.replaceAll("_", " ") ?? html`<span class="muted">not recorded yet</span>` },
  { title: "Dead letter", cell: (row) => (row.dead_letter ? html`<${State} state=${row.dead_letter} />` : html`<span class="muted">–</span>`) },
];

/** One dead letter: what was asked, every try, what became of it. */
export function Letter({ id }) {
  const may = useOperator();
  const shown = useData(`/v1/dead-letters/${encodeURIComponent(id)}`);
  return html`<div class="title"><h1>Dead letter</h1><${Copy} text=${id} shown=${brief(id)} label="Copy the name" /></div>
    <${Shown} of=${shown} rows=${8}>${(data) => html`
      <${Card} title=${data.tool ?? data.kind?.replaceAll("_", " ") ?? "Unreadable"} class=${data.state === "waiting" ? "alert" : ""} extra=${html`<${State} state=${data.state} />`}>
        <p class="said">${data.error}</p>
        <${Facts} of=${[
          ["Reason", data.reason?.replaceAll("_", " ")], ["Whose doing", data.cause], ["Tool", data.tool && html`<a href=${tool(data.tool)}><code>${data.tool}</code></a>`], ["Lane", data.lane],
          ["Its evaluation", data.job && html`<a href=${evaluation(data.job)}><code>${brief(data.job)}</code></a>`], ["Batch", data.batch], ["Model", data.model], ["Image", data.image],
          ["Given up by", data.worker], ["Submitted", data.submitted && html`<${Time} at=${data.submitted} />`], ["Given up", html`<${Time} at=${data.died} />`],
          ["Handled", data.handled && html`<${Time} at=${data.handled} /> by ${data.handled_by}`], ["Given up because", data.drop_reason],
        ]} />
        ${may && data.replayable && data.state !== "dropped" && html`<p class="chips"><${Replay} ids=${[data.id]} text=${data.state === "replayed" ? "Replay again" : "Replay"} force=${data.state === "replayed"} /></p>`}
        ${!data.replayable && html`<p class="muted small-print">It cannot be replayed: ${data.undecodable ?? "its message is no job that can be decoded"}.</p>`}</${Card}>
      ${data.tries?.length > 0 && html`<${Card} title=${`Tries (${count(data.tries.length)})`}><ol class="evidence">${data.tries.map((one) => html`<li><strong>${one.number}</strong> by ${one.worker}, ended <${Time} at=${one.ended} /><span class="why long">${one.error}</span></li>`)}</ol></${Card}>`}
      ${data.input && html`<${Card} title="What was asked"><pre class="output" tabindex="0" aria-label="What was asked">${JSON.stringify(data.input, null, 2)}</pre></${Card}>`}
      ${data.evidence?.length > 0 && html`<${Card} title="Evidence"><ul class="evidence">${data.evidence.map((one) => html`<li><span class="tag">${one.source}</span> ${one.message}</li>`)}</ul></${Card}>`}
      ${data.lineage?.length > 1 && html`<${Card} title="Jobs that ask the same"><${Table} label="Jobs that ask the same" columns=${lineageColumns} rows=${data.lineage} to=${(row) => evaluation(row.id)} /></${Card}>`}
      <details class="raw"><summary>The document</summary><pre class="output" tabindex="0">${JSON.stringify(data, null, 2)}</pre></details>`}</${Shown}>`;
}
