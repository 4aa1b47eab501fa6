import { Causes, Empty, Options, Rate, Shown, Table, Time, html, model, useData, useRef } from "../parts.js";
import { count, percent, short } from "../format.js";
import { amend, href, moment, parameters } from "../router.js";

const KINDS = [["", "All"], ["batch", "Batches"], ["run", "Labelled"]];

/** The address of a run's page. */
export const run = (row) => href(`/runs/${encodeURIComponent(row.id)}`, { kind: row.kind });

const columns = [
  { title: "Run", cell: (row) => html`<code>${short(row.id, 40)}</code>`, class: "id" },
  { title: "Kind", cell: (row) => html`<span class="tag">${row.kind === "batch" ? "batch" : "label"}</span>`, class: "hide-narrow" },
  { title: "Models", cell: (row) => row.models.length ? row.models.slice(0, 3).map((name, index) => html`${index ? ", " : ""}<a href=${model(name)}>${name}</a>`) : html`<span class="muted">–</span>`, class: "hide-narrow" },
  { title: "Success rate", cell: (row) => html`<${Rate} rate=${row.standing.rate} label="Where the subject was put to the test: " />` },
  { title: "As reported", cell: (row) => html`<span title="Every failure counted, whoever's doing it was">${percent(row.standing.raw.rate)}</span>`, class: "number" },
  { title: "Outcomes", cell: (row) => html`<${Causes} causes=${row.standing.evaluations} />` },
  { title: "Evaluations", cell: (row) => count(row.standing.evaluations.total), class: "number" },
  { title: "Last", cell: (row) => html`<${Time} at=${row.last} />`, class: "when" },
];

export function Runs() {
  const asked = parameters();
  const wait = useRef(0);
  const shown = useData("/v1/runs", { kind: asked.kind, q: asked.q, model: asked.model, cursor: asked.cursor, limit: 50 }, { live: !asked.cursor });
  const typed = (event) => {
    clearTimeout(wait.current);
    const { value } = event.target;
    wait.current = setTimeout(() => amend({ q: value.trim() || undefined, cursor: undefined }), 250);
  };
  return html`<div class="title"><h1>Runs</h1>
      <span class="muted" role="status">${shown.data ? `${count(shown.data.count)} ${shown.data.count === 1 ? "run" : "runs"}` : " "}</span>
      <${Options} label="Kind" value=${asked.kind ?? ""} options=${KINDS} onChange=${(kind) => amend({ kind: kind || undefined, cursor: undefined })} />
      <input type="search" aria-label="Search runs" placeholder="Search" value=${asked.q ?? ""} onInput=${typed} maxlength="200" /></div>
    <${Shown} of=${shown} rows=${10}>${(data) => html`
      <${Table} label="Runs" columns=${columns} rows=${data.runs.map((row) => ({ ...row, name: `${row.kind} ${row.id}` }))} to=${run}
        empty=${html`<${Empty} title="No runs" text=${asked.q || asked.kind || asked.model ? "None fits." : "A batch (evalfleet submit --batch NAME), a suite (evalfleet suite run) and jobs with --label run=NAME are runs."} />`} />
      <nav class="pager" aria-label="Pages of the list">
        ${asked.cursor ? html`<a class="button" href=${href("/runs", { ...asked, cursor: undefined, as_of: moment() })}>First page</a>` : html`<span></span>`}
        ${data.next && html`<a class="button" rel="next" href=${href("/runs", { ...asked, cursor: data.next, as_of: moment() })}>Next page</a>`}
      </nav>`}</${Shown}>`;
}
