import { Card, Causes, Dot, Empty, Rate, Shown, Table, Tile, evaluation, html, tool, useData, useState } from "../parts.js";
import { count, duration, percent, points, probability } from "../format.js";
import { amend, moment, parameters } from "../router.js";

const VERDICTS = { regression: ["subject", "Regression"], improvement: ["passed", "Improvement"], no_change: ["batch", "No change that is sure"] };
const CHANGES = { lost: "subject", gained: "passed", untested: "infrastructure", new: "batch", gone: "batch", fails: "harness", passes: "batch" };

const toolColumns = [
  { title: "Tool", cell: (row) => html`<a href=${tool(row.tool)}><code>${row.tool}</code></a>`, class: "id" },
  { title: "Base", cell: (row) => html`<${Rate} rate=${row.base} />` },
  { title: "Head", cell: (row) => html`<${Rate} rate=${row.head} />` },
  { title: "Difference", cell: (row) => row.difference ? html`<strong>${points(row.difference.difference)}</strong> <span class="muted">(${points(row.difference.low)} to ${points(row.difference.high)})</span>` : "–", class: "number" },
  { title: "q", cell: (row) => html`<span title="False discovery rate: the probability corrected for the number of tools">${probability(row.q)}</span>`, class: "number" },
];

const last = (one) => (one ? html`<${Dot} outcome=${one.outcome} href=${evaluation(one.id)} title=${one.outcome} />` : html`<span class="muted">–</span>`);
const caseColumns = [
  { title: "Case", cell: (row) => row.case, class: "wide" },
  { title: "Change", cell: (row) => html`<span class="badge ${CHANGES[row.change]}">${row.change}</span>` },
  { title: "Base", cell: (row) => html`${last(row.base_last)} <span class="muted">${row.base.passed}/${row.base.tries}</span>` },
  { title: "Head", cell: (row) => html`${last(row.head_last)} <span class="muted">${row.head.passed}/${row.head.tries}</span>` },
];

function Side({ name, side }) {
  return html`<${Card} title=${html`${name} <code>${side.selector}</code>`}>
    <p><${Rate} rate=${side.standing.rate} /></p><${Causes} causes=${side.standing.evaluations} />
    <p class="muted small-print">${count(side.standing.evaluations.total)} evaluations · as reported ${percent(side.standing.raw.rate)} · median ${duration(side.durations?.p50_ms)} · transaction ${side.basis_t}</p></${Card}>`;
}

function Form({ asked }) {
  const [base, setBase] = useState(asked.base ?? "");
  const [head, setHead] = useState(asked.head ?? "");
  const known = useData("/v1/evaluations", { kind: "batch", limit: 50 });
  const models = useData("/v1/models");
  const names = [...(known.data?.evaluations ?? []).map((row) => `batch:${row.id}`), ...(models.data?.subjects ?? []).map((row) => `model:${row.name}`)];
  const field = (label, value, set, as) => html`<label>${label}<input type="text" aria-label=${label} list="selectors" required maxlength="500" value=${value} onInput=${(event) => set(event.target.value)} placeholder="batch:ID, run:NAME, model:NAME, tool:NAME,image:DIGEST" />
    <span>as of, in UTC (the page's moment when empty)</span><input type="datetime-local" step="1" aria-label=${`As of when ${label.toLowerCase()} is looked at`} title="As of when (UTC); empty for the page's moment" value=${asked[as]?.slice(0, 19) ?? ""} onChange=${(event) => amend({ [as]: event.target.value ? `${event.target.value}Z` : undefined })} /></label>`;
  const go = (event) => {
    event.preventDefault();
    amend({ base: base.trim(), head: head.trim() });
  };
  return html`<form class="compare-form" onSubmit=${go}>${field("Base", base, setBase, "base_as_of")}${field("Head", head, setHead, "head_as_of")}
    <button class="button primary">Compare</button><datalist id="selectors">${names.map((name) => html`<option value=${name} />`)}</datalist></form>`;
}

export function Compare() {
  const asked = parameters();
  const both = asked.base && asked.head;
  const shown = useData(both ? "/v1/compare" : null, both ? { base: asked.base, head: asked.head, base_as_of: asked.base_as_of, head_as_of: asked.head_as_of } : {});
  return html`<div class="title"><h1>Compare</h1></div>
    <${Form} key=${`${asked.base} ${asked.head} ${moment()}`} asked=${asked} />
    ${!both ? html`<${Empty} title="Two sets of evaluations against each other" text="Two runs, two batches, two models, two versions of a tool, or one at two moments. Where both tried the same cases, those are compared pair by pair." />`
      : html`<${Shown} of=${shown}>${(data) => {
        const [tone, word] = VERDICTS[data.verdict];
        const of = data.paired ?? data.unpaired;
        return html`<div class="verdict ${tone}" role="status"><h2>${word}</h2><ul>${data.because.map((text) => html`<li>${text}</li>`)}</ul></div>
        <div class="tiles">
          <${Tile} label="Difference" value=${of ? `${points(of.difference)} points` : "–"} note=${of ? `${points(of.low)} to ${points(of.high)} · p = ${probability(of.p)}${data.paired ? ` · ${data.pairs} cases, pair by pair` : " · all together"}` : "nothing to compare"} />
          <${Tile} label="Lost" value=${count(data.changes.lost ?? 0)} tone=${data.changes.lost ? "subject" : ""} note="cases that passed before" />
          <${Tile} label="Gained" value=${count(data.changes.gained ?? 0)} tone=${data.changes.gained ? "passed" : ""} note="cases that failed before" />
          <${Tile} label="Time" value=${data.duration ? `× ${data.duration.ratio.toFixed(2)}` : "–"} note=${data.duration ? `${data.duration.low.toFixed(2)} to ${data.duration.high.toFixed(2)}, on the same accelerator` : "too few durations"} />
        </div>
        <div class="columns"><${Side} name="Base" side=${data.base} /><${Side} name="Head" side=${data.head} /></div>
        ${data.tools.length > 0 && html`<${Card} title="Tools"><${Table} label="Tools" columns=${toolColumns} rows=${data.tools.map((row) => ({ ...row, name: row.tool }))} /></${Card}>`}
        ${data.cases.length > 0 && html`<${Card} title="Cases"><${Table} label="Cases" columns=${caseColumns} rows=${data.cases.map((row) => ({ ...row, name: row.case }))} /></${Card}>`}`;
      }}</${Shown}>`}`;
}
