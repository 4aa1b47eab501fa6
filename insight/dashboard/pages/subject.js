import { Card, Dot, Facts, Options, Rate, Shown, Table, Tile, Time, WINDOWS, evaluation, html, useData } from "../parts.js";
import { Outcomes, Rates } from "../chart.js";
import { count, duration, percent, short, time } from "../format.js";
import { amend, href, parameters } from "../router.js";

const ACTIONS = { promote: "passed", keep: "batch", quarantine: "subject", needs_more_evidence: "harness" };

const versionColumns = (name) => [
  { title: "Image", cell: (row) => html`<a href=${href("/evaluations", { tool: name, image: row.image })} title=${row.image}><code>${short(row.image)}</code></a>`, class: "id" },
  { title: "Success rate", cell: (row) => html`<${Rate} rate=${row.rate} />` },
  { title: "Recommendation", class: "wide", cell: (row) => row.recommendation ? html`<span class="badge ${ACTIONS[row.recommendation.action]}">${row.recommendation.action.replaceAll("_", " ")}</span><span class="why long">${row.recommendation.because}</span>` : "–" },
  { title: "First", cell: (row) => html`<${Time} at=${row.first} />`, class: "when hide-narrow" },
  { title: "Last", cell: (row) => html`<${Time} at=${row.last} />`, class: "when" },
];

export function Matrix({ cases, filter }) {
  return html`<table class="matrix" aria-label="Cases by outcomes"><tbody>${cases.map((row) => html`<tr key=${row.case}>
    <th scope="row"><a href=${href("/evaluations", { ...filter, case: row.case })} title=${row.case}>${short(row.case, 64)}</a></th>
    <td><${Rate} rate=${row.rate} /></td>
    <td class="dots">${row.outcomes.map((cell) => html`<${Dot} outcome=${cell.outcome} href=${evaluation(cell.id)} title=${cell.outcome} />`)}</td></tr>`)}</tbody></table>`;
}

function Changes({ changes }) {
  if (!changes.length) return html`<p class="muted calm">Neither its rate nor its duration changed for good.</p>`;
  const shown = (of, value) => (of === "success_rate" ? percent(value) : duration(value));
  return html`<ul class="evidence">${changes.map((one) => html`<li><span class="tag">${one.of === "success_rate" ? "success rate" : "duration"}</span>
    ${shown(one.of, one.before)} → <strong>${shown(one.of, one.after)}</strong> <span class="muted">from ${time(one.at)} on; evidence ${one.evidence.toFixed(1)} nats</span></li>`)}</ul>`;
}

export function Subject({ kind, id }) {
  const window = parameters().window ?? "auto";
  const shown = useData(`/v1/${kind}s/${encodeURIComponent(id)}`, { window });
  return html`<div class="title"><h1><code>${id}</code></h1>
      <${Options} label="Window" value=${window} options=${WINDOWS} onChange=${(name) => amend({ window: name === "auto" ? undefined : name })} /></div>
    <${Shown} of=${shown} rows=${12}>${(data) => {
      const { standing } = data;
      const marks = [...data.versions.map((version) => ({ at: version.first })), ...data.changes.filter((one) => one.of === "success_rate").map((one) => ({ at: one.at, tone: "change" }))];
      return html`<div class="tiles">
        <${Tile} label="Success rate" value=${percent(standing.rate.rate)} note=${`${percent(standing.rate.low)} to ${percent(standing.rate.high)}, of ${count(standing.rate.tries)}`} />
        <${Tile} label="As reported" value=${percent(standing.raw.rate)} note="every failure counted" />
        <${Tile} label="Evaluations" value=${count(standing.evaluations.total)} note="all of them" href=${href("/evaluations", { [kind]: id })} />
        <${Tile} label="Run time" value=${duration(data.durations?.p50_ms)} note=${data.durations ? `median · 90 % within ${duration(data.durations.p90_ms)} · longest ${duration(data.durations.max_ms)}` : "none measured"} />
      </div>
      <${Card} title="Success rate" extra=${html`<span class="muted">with its 95 % Wilson band${data.versions.length > 1 ? "; dashed: a new image" : ""}</span>`}><${Rates} series=${data.series} marks=${marks} /></${Card}>
      <div class="columns"><${Card} title="Outcomes"><${Outcomes} series=${data.series} /></${Card}>
        <${Card} title="Changes"><${Changes} changes=${data.changes} /><${Facts} of=${[["First", html`<${Time} at=${data.first} />`], ["Last", html`<${Time} at=${data.last} />`], ["Lately", html`<${Rate} rate=${data.lately} />`]]} /></${Card}></div>
      ${data.versions.length > 0 && html`<${Card} title="Versions" extra=${html`<span class="muted">by image, the newest first</span>`}><${Table} label="Versions" columns=${versionColumns(id)} rows=${data.versions} /></${Card}>`}
      ${data.cases.length > 0 && html`<${Card} title=${kind === "model" ? "Cases and questions" : "Cases"} extra=${html`<span class="muted">those that fail most first; the newest outcome on the right</span>`}><${Matrix} cases=${data.cases} filter=${{ [kind]: id }} /></${Card}>`}`;
    }}</${Shown}>`;
}
