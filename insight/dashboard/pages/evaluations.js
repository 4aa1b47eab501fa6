import { COLUMNS, Empty, Shown, Table, Time, evaluation, html, useData, useEffect, useRef, useState } from "../parts.js";
import { bytes, count, duration, short } from "../format.js";
import { amend, href, moment, parameters } from "../router.js";

const CHOICES = {
  cause: ["none", "subject", "budget", "infrastructure", "harness"],
  status: ["passed", "failed", "timed_out", "out_of_memory", "limit_exceeded", "crashed", "cancelled", "expired", "dead"],
  kind: ["function_call", "command", "tool", "code_change", "batch", "question"],
};
const TEXTS = ["tool", "model", "case", "suite", "run", "batch", "worker", "image", "label"];
const NAMES = [...Object.keys(CHOICES), ...TEXTS, "accelerator", "since", "until", "q"];

const columns = [
  ...COLUMNS,
  { title: "Model", cell: (row) => row.model ?? "–", class: "line hide-narrow" },
  { title: "Worker", cell: (row) => row.worker ?? "–", class: "line hide-narrow" },
  { title: "Effects", cell: (row) => (row.effects ? html`${count(row.effects)}${row.effects_unexpected ? html` <span class="tag warn" title="not announced">${row.effects_unexpected}</span>` : ""}` : "–"), class: "number hide-narrow" },
  { title: "Memory", sort: "largest", cell: (row) => (row.memory_peak_bytes ? bytes(row.memory_peak_bytes) : "–"), class: "number hide-narrow" },
  { title: "Run time", sort: "slowest", cell: (row) => duration(row.wall_ms), class: "number" },
  { title: "Finished", sort: "newest", cell: (row) => html`<${Time} at=${row.finished} />`, class: "when" },
];

function Filters({ asked }) {
  const [more, open] = useState(() => TEXTS.some((name) => asked[name]));
  const search = useRef(null);
  const wait = useRef(0);
  const set = (name, value) => amend({ [name]: value || undefined, cursor: undefined });
  useEffect(() => {
    if (asked.focus) {
      search.current?.focus();
      amend({ focus: undefined });
    }
  }, []);
  const typed = (name) => (event) => {
    clearTimeout(wait.current);
    const { value } = event.target;
    wait.current = setTimeout(() => set(name, value.trim()), 250);
  };
  return html`<form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
    <input type="search" ref=${search} placeholder="Search id, tool, case, error" aria-label="Search" value=${asked.q ?? ""} onInput=${typed("q")} maxlength="200" />
    ${Object.entries(CHOICES).map(([name, options]) => html`<label><span class="sr">${name}</span>
      <select value=${asked[name] ?? ""} onChange=${(event) => set(name, event.target.value)}>
        <option value="">any ${name}</option>${options.map((option) => html`<option value=${option} selected=${asked[name] === option}>${option === "none" ? "no cause (passed)" : option.replaceAll("_", " ")}</option>`)}
      </select></label>`)}
    <button type="button" class="plain" aria-expanded=${String(more)} onClick=${() => open(!more)}>More filters</button>
    ${more && html`<div class="filters-more">${TEXTS.map((name) => html`<label>${name}
      <input type="text" value=${asked[name] ?? ""} onInput=${typed(name)} placeholder=${name === "label" ? "key=value" : ""} maxlength="300" /></label>`)}</div>`}
  </form>`;
}

export function Evaluations() {
  const asked = parameters();
  const filter = Object.fromEntries(NAMES.filter((name) => asked[name]).map((name) => [name, asked[name]]));
  const sort = asked.sort ?? "newest";
  const shown = useData("/v1/evaluations", { ...filter, sort, cursor: asked.cursor, limit: 50, count: true }, { live: !asked.cursor });
  const active = Object.entries(filter).filter(([name]) => name !== "q" && !CHOICES[name]);
  return html`<div class="title"><h1>Evaluations</h1>
      <span class="muted" role="status">${shown.data ? `${count(shown.data.count)} ${shown.data.count === 1 ? "evaluation" : "evaluations"}` : " "}</span></div>
    <${Filters} asked=${asked} />
    ${active.length > 0 && html`<p class="chips">${active.map(([name, value]) => html`<button type="button" class="chip" onClick=${() => amend({ [name]: undefined, cursor: undefined })} title="Remove this filter">${name}: ${short(value, 40)} <span aria-hidden="true">✕</span></button>`)}</p>`}
    <${Shown} of=${shown} rows=${14}>${(data) => html`
      <${Table} label="Evaluations" columns=${columns} rows=${data.evaluations} to=${(row) => evaluation(row.id)} sort=${sort}
        onSort=${(name) => amend({ sort: name === "newest" ? undefined : name, cursor: undefined })}
        empty=${html`<${Empty} title="No evaluation fits" text=${moment() ? "At that moment none was known that fits the filters." : "Take a filter away, or submit something."}
          action=${html`<a class="button" href=${href("/evaluations")}>Without filters</a>`} />`} />
      <nav class="pager" aria-label="Pages of the list">
        ${asked.cursor ? html`<a class="button" href=${href("/evaluations", { ...asked, cursor: undefined, as_of: moment() })}>First page</a>` : html`<span></span>`}
        ${data.next && html`<a class="button" rel="next" href=${href("/evaluations", { ...asked, cursor: data.next, as_of: moment() })}>Next page</a>`}
      </nav>`}</${Shown}>`;
}
