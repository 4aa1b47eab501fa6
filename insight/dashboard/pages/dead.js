import { Card, Empty, Shown, Table, Time, evaluation, html, useData, useRef } from "../parts.js";
import { brief, count } from "../format.js";
import { Replay, useOperator } from "../replay.js";
import { amend, parameters } from "../router.js";

const columns = (may) => [
  { title: "Job", cell: (row) => html`<code>${brief(row.job)}</code>`, class: "id" },
  { title: "Reason", cell: (row) => html`<span class="badge subject">${row.reason?.replaceAll("_", " ")}</span>` },
  { title: "What", class: "wide", cell: (row) => html`<span class="what">${row.tool ?? row.kind?.replaceAll("_", " ") ?? "unreadable"}</span><span class="why long">${row.error}</span>` },
  { title: "Tries", cell: (row) => count(row.attempts), class: "number" },
  { title: "Replayed as", cell: (row) => row.replayed_by ? html`<a href=${evaluation(row.replayed_by)}><code>${brief(row.replayed_by)}</code></a>` : may ? html`<${Replay} ids=${[row.job]} text="Replay" />` : html`<span class="muted">not yet</span>` },
  { title: "Given up", cell: (row) => html`<${Time} at=${row.died} />`, class: "when" },
];

/** Those of the list that nobody has replayed. */
const waiting = (data) => data.dead_letters.filter((row) => !row.replayed_by).map((row) => row.job);

export function Dead() {
  const asked = parameters();
  const wait = useRef(0);
  const may = useOperator();
  const shown = useData("/v1/dead-letters", { reason: asked.reason, q: asked.q, limit: 200 });
  const typed = (event) => {
    clearTimeout(wait.current);
    const { value } = event.target;
    wait.current = setTimeout(() => amend({ q: value.trim() || undefined }), 250);
  };
  return html`<div class="title"><h1>Dead letters</h1><input type="search" aria-label="Search dead letters" placeholder="Search job or error" value=${asked.q ?? ""} onInput=${typed} maxlength="200" /></div>
    <${Shown} of=${shown} rows=${6}>${(data) => html`
      ${data.count > 0 && html`<p class="chips">
        <button type="button" class="chip ${asked.reason ? "" : "on"}" onClick=${() => amend({ reason: undefined })}>all ${count(data.count)}</button>
        ${Object.entries(data.reasons).map(([reason, number]) => html`<button type="button" class="chip ${asked.reason === reason ? "on" : ""}" onClick=${() => amend({ reason })}>${reason.replaceAll("_", " ")} ${count(number)}</button>`)}
        <span class="muted">${count(data.open)} not replayed</span></p>`}
      <${Card}><${Table} label="Dead letters" columns=${columns(may)} rows=${data.dead_letters} to=${(row) => evaluation(row.job)}
        empty=${html`<${Empty} title="No dead letters" text=${data.count ? "None fits." : "Every job could be run."} />`} /></${Card}>
      ${may && waiting(data).length > 1 && html`<p class="chips"><${Replay} key=${waiting(data).join()} ids=${waiting(data)} text=${`Replay all ${count(waiting(data).length)} of this list`} /></p>`}
      ${data.open > 0 && html`<p class="muted">Replay one with <code>evalfleet dead replay JOB</code>, all with <code>evalfleet dead replay --all</code>; <code>--dry-run</code> first says what would be done.</p>`}`}</${Shown}>`;
}
