import { COLUMNS, Card, Causes, Dot, Empty, Facts, OUTCOMES, Options, Rate, Shown, Table, Tile, Time, evaluation, html, model, tool, useData, useState } from "../parts.js";
import { Matrix } from "./subject.js";
import { count, duration, percent, short } from "../format.js";
import { href, parameters } from "../router.js";

const FAULTS = { tools: "Wrong tools", arguments: "Wrong arguments", effects: "Wrong effects", answer: "Wrong answer" };

/** How a question went: whose doing, and what was not right. */
function Verdict({ of }) {
  const [name, mark, title] = OUTCOMES[of.outcome] ?? OUTCOMES.harness;
  const word = of.fault ? FAULTS[of.fault].toLowerCase() : of.outcome;
  return html`<span class="badge ${name}" title=${title}><span aria-hidden="true">${mark}</span> ${word ?? "–"}</span>`;
}

/** The tools that were expected and those that were called: what is missing and what is too much is marked. */
function Tools({ of }) {
  const names = [...new Set([...of.expected, ...of.called])].sort();
  if (!names.length) return html`<span class="muted">none, as expected</span>`;
  return html`<span class="tools">${names.map((name) => {
    const [expected, called] = [of.expected.includes(name), of.called.includes(name)];
    const [state, mark, word] = expected && called ? ["right", "✓", "called, as expected"] : expected ? ["missing", "−", "expected, not called"] : ["extra", "+", "called, not expected"];
    return html`<span class="tool ${state}" title=${`${name}: ${word}`}><span aria-hidden="true">${mark}</span><code>${name}</code><span class="sr"> ${word}</span></span>`;
  })}</span>`;
}

const questionColumns = [
  { title: "Question", class: "wide", cell: (row) => html`<span class="what">${row.question ?? row.name}</span>` },
  { title: "Verdict", cell: (row) => html`<${Verdict} of=${row} />` },
  { title: "Tools", cell: (row) => html`<${Tools} of=${row} />` },
  { title: "Why", class: "wide hide-narrow", cell: (row) => row.error ? html`<span class="why long" title=${row.error}>${row.error}</span>` : html`<span class="muted">–</span>` },
  { title: "Calls in VMs", class: "hide-narrow", cell: (row) => row.calls.length ? html`<span class="dots">${row.calls.map((call) => html`<${Dot} outcome=${call.outcome} href=${evaluation(call.id)} title=${`${call.tool ?? "call"}: ${call.outcome}`} />`)}</span>` : html`<span class="muted">–</span>` },
  { title: "Time", cell: (row) => duration(row.wall_ms), class: "number" },
];

function Questions({ questions }) {
  const [which, choose] = useState("all");
  const { faults, listed } = questions;
  const others = Object.keys(OUTCOMES).filter((name) => !["passed", "subject"].includes(name) && listed.some((row) => row.outcome === name));
  const choices = [["all", `All ${count(listed.length)}`], ["passed", "Passed"],
    ...Object.keys(FAULTS).filter((name) => faults[name]).map((name) => [name, `${FAULTS[name]} ${count(faults[name])}`]),
    ...others.map((name) => [name, name[0].toUpperCase() + name.slice(1)])];
  const rows = listed.filter((row) => which === "all" || (row.fault ?? row.outcome) === which);
  return html`<${Card} title="Questions" extra=${html`<${Options} label="Which questions" value=${which} options=${choices} onChange=${choose} />`}>
    <${Table} label="Questions" columns=${questionColumns} rows=${rows} to=${(row) => evaluation(row.id)} empty=${html`<${Empty} title="None" text="No question went so." />`} />
    ${questions.omitted > 0 && html`<p class="notice">${count(questions.omitted)} more are not listed.</p>`}</${Card}>`;
}

const functionColumns = [
  { title: "Function", cell: (row) => html`<a href=${tool(row.name)}><code>${row.name}</code></a>`, class: "id" },
  { title: "Success rate", cell: (row) => html`<${Rate} rate=${row.rate} />` },
];

const failureColumns = [...COLUMNS, { title: "Run time", cell: (row) => duration(row.wall_ms), class: "number" }, { title: "Finished", cell: (row) => html`<${Time} at=${row.finished} />`, class: "when" }];

export function Run({ id }) {
  const { kind } = parameters();
  const shown = useData(`/v1/runs/${encodeURIComponent(id)}`, { kind });
  return html`<${Shown} of=${shown} rows=${12}>${(data) => {
    const { standing, questions } = data;
    const name = data.kind === "batch" ? `batch:${id}` : `run:${id}`;
    const filter = { [data.kind]: id };
    return html`
      <div class="title"><h1>${id}</h1><span class="tag">${data.kind === "batch" ? "batch" : "label"}</span>
        <span class="title-end"><a class="button" href=${href("/evaluations", filter)}>Its evaluations</a> <a class="button" href=${href("/compare", { base: name })}>Compare with…</a></span></div>
      <p class="under-title">${data.models.map((one) => html`<span>Model <a href=${model(one)}>${one}</a></span>`)}
        <span>First <${Time} at=${data.first} /></span><span>Last <${Time} at=${data.last} /></span></p>
      <div class="tiles">
        <${Tile} label="Success rate" value=${percent(standing.rate.rate)} title="Where the subject was put to the test" note=${standing.rate.tries ? `${percent(standing.rate.low)} to ${percent(standing.rate.high)}, ${count(standing.rate.passed)} of ${count(standing.rate.tries)}` : "nothing tested"} />
        <${Tile} label="As reported" value=${percent(data.reported?.success_rate ?? standing.raw.rate)} note="every failure counted, whoever's doing it was" />
        <${Tile} label=${questions ? "Questions" : "Evaluations"} value=${count(standing.evaluations.total)} note=${Object.entries(data.statuses).map(([status, number]) => `${count(number)} ${status.replaceAll("_", " ")}`).join(" · ")} />
        <${Tile} label="Infrastructure faults" value=${count(standing.evaluations.infrastructure)} tone=${standing.evaluations.infrastructure ? "infrastructure" : ""} note="counted against nobody" />
        <${Tile} label=${questions ? "Time to answer" : "Run time"} value=${duration(data.durations?.p50_ms)} note=${data.durations ? `median · 90 % within ${duration(data.durations.p90_ms)}` : "none measured"} />
      </div>
      ${questions && html`<${Questions} questions=${questions} />`}
      <div class="columns">
        ${data.tools.length > 0 && html`<${Card} title="Functions" extra=${html`<span class="muted">${questions ? "of the questions that called each" : "of the evaluations that called each first"}</span>`}><${Table} label="Functions" columns=${functionColumns} rows=${data.tools} /></${Card}>`}
        <${Card} title="By cause"><${Causes} causes=${standing.evaluations} />
          <${Facts} of=${Object.entries(OUTCOMES).filter(([cause]) => standing.evaluations[cause]).map(([cause, [, , title]]) => [title.split(";")[0], count(standing.evaluations[cause])])} /></${Card}>
      </div>
      ${!questions && data.cases.length > 0 && html`<${Card} title="Cases" extra=${html`<span class="muted">those that fail most first; the newest outcome on the right</span>`}><${Matrix} cases=${data.cases} filter=${filter} /></${Card}>`}
      ${!questions && data.failures.length > 0 && html`<${Card} title="What did not pass" extra=${html`<span class="muted">the newest ${count(data.failures.length)}</span>`}><${Table} label="What did not pass" columns=${failureColumns} rows=${data.failures} to=${(row) => evaluation(row.id)} /></${Card}>`}`;
  }}</${Shown}>`;
}
