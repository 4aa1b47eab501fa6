import { Card, Causes, Dot, Empty, Options, Rate, Shown, Table, Tile, Time, evaluation, html, tool, useData, useState } from "../parts.js";
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

function Side({ name, side, at }) {
  const when = at ?? moment();
  return html`<${Card} title=${html`${name} <code>${side.selector}</code>`}>
    <p><${Rate} rate=${side.standing.rate} /></p><${Causes} causes=${side.standing.evaluations} />
    <p class="muted small-print">${count(side.standing.evaluations.total)} evaluations · as reported ${percent(side.standing.raw.rate)} · median ${duration(side.durations?.p50_ms)} · ${when && !/^\d+$/.test(when) ? html`as of <${Time} at=${when} />` : when ? "" : "as of now"} (transaction ${side.basis_t})</p></${Card}>`;
}

const MODES = [["sets", "Two sets"], ["moments", "Two moments"]];

/** A moment as its field has it, and as an address has it: in UTC. */
const inField = (text) => (text && !/^\d+$/.test(text) ? text.replace("Z", "").slice(0, 19) : "");
const inAddress = (text) => (text ? `${text.length === 16 ? `${text}:00` : text}Z` : undefined);

function Form({ asked, mode, choose }) {
  const [said, say] = useState({ base: asked.base ?? "", head: asked.head ?? "", base_as_of: inField(asked.base_as_of), head_as_of: inField(asked.head_as_of) });
  const runs = useData("/v1/runs", { limit: 100 }, { live: false });
  const models = useData("/v1/models", {}, { live: false });
  const tools = useData("/v1/tools", {}, { live: false });
  const names = [...(runs.data?.runs ?? []).map((row) => `${row.kind}:${row.id}`), ...(models.data?.subjects ?? []).map((row) => `model:${row.name}`), ...(tools.data?.subjects ?? []).map((row) => `tool:${row.name}`)];
  const set = (name) => (event) => say({ ...said, [name]: event.target.value });
  const what = (name, label) => html`<label>${label}<input type="text" aria-label=${label} list="selectors" required maxlength="500" value=${said[name]} onInput=${set(name)} placeholder="run:NAME, batch:ID, model:NAME, tool:NAME,image:DIGEST" /></label>`;
  const when = (name, label, hint, required) => html`<label>${label}<input type="datetime-local" step="1" aria-label=${label} required=${required} value=${said[name]} onInput=${set(name)} /><span>${hint}</span></label>`;
  const go = (event) => {
    event.preventDefault();
    const [base, head] = [said.base.trim(), (mode === "moments" ? said.base : said.head).trim()];
    amend({ mode: undefined, base, head, base_as_of: inAddress(said.base_as_of), head_as_of: inAddress(said.head_as_of) });
  };
  return html`<form class="card compare-form" onSubmit=${go}>
    <${Options} label="What is compared" value=${mode} options=${MODES} onChange=${choose} />
    <div class="compare-fields">${mode === "moments"
      ? html`${what("base", "Of what")}${when("base_as_of", "As of (UTC)", "the earlier moment", true)}${when("head_as_of", "And as of (UTC)", "empty: the page's moment", false)}`
      : html`${what("base", "Base")}${what("head", "Head")}`}
      <button class="button primary">Compare</button></div>
    ${mode === "sets" && html`<details class="raw" open=${Boolean(said.base_as_of || said.head_as_of)}><summary>Each as of its own moment</summary>
      <div class="compare-fields">${when("base_as_of", "Base as of (UTC)", "empty: the page's moment", false)}${when("head_as_of", "Head as of (UTC)", "empty: the page's moment", false)}</div></details>`}
    <datalist id="selectors">${names.map((name) => html`<option value=${name} />`)}</datalist></form>`;
}

export function Compare() {
  const asked = parameters();
  const both = asked.base && asked.head;
  const moments = both ? asked.base === asked.head && Boolean(asked.base_as_of || asked.head_as_of) : asked.mode === "moments";
  const [mode, choose] = useState(moments ? "moments" : "sets");
  const shown = useData(both ? "/v1/compare" : null, both ? { base: asked.base, head: asked.head, base_as_of: asked.base_as_of, head_as_of: asked.head_as_of } : {});
  return html`<div class="title"><h1>Compare</h1></div>
    <${Form} key=${`${asked.base} ${asked.head} ${asked.base_as_of} ${asked.head_as_of}`} asked=${asked} mode=${mode} choose=${choose} />
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
        <div class="columns"><${Side} name=${moments ? "Then" : "Base"} side=${data.base} at=${asked.base_as_of} /><${Side} name=${moments ? "Later" : "Head"} side=${data.head} at=${asked.head_as_of} /></div>
        ${data.tools.length > 0 && html`<${Card} title="Tools"><${Table} label="Tools" columns=${toolColumns} rows=${data.tools.map((row) => ({ ...row, name: row.tool }))} /></${Card}>`}
        ${data.cases.length > 0 && html`<${Card} title="Cases"><${Table} label="Cases" columns=${caseColumns} rows=${data.cases.map((row) => ({ ...row, name: row.case }))} /></${Card}>`}`;
      }}</${Shown}>`}`;
}
