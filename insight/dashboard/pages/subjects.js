import { Card, Causes, Empty, Rate, Shown, Spark, Table, Time, html, model, tool, useData, useState } from "../parts.js";
import { count, duration } from "../format.js";

const WORDS = { tool: { title: "Tools", path: "/v1/tools", to: tool }, model: { title: "Models", path: "/v1/models", to: model } };

const columns = [
  { title: "Name", cell: (row) => html`<code>${row.name}</code>`, class: "id" },
  { title: "Success rate", cell: (row) => html`<${Rate} rate=${row.standing.rate} />` },
  { title: "Lately", cell: (row) => html`<${Rate} rate=${row.lately} label="The last 24 hours of its history: " />`, class: "hide-narrow" },
  { title: "By day", cell: (row) => html`<${Spark} values=${row.spark} />`, class: "hide-narrow" },
  { title: "Outcomes", cell: (row) => html`<${Causes} causes=${row.standing.evaluations} />` },
  { title: "Evaluations", cell: (row) => count(row.standing.evaluations.total), class: "number" },
  { title: "Mean time", cell: (row) => duration(row.standing.wall_ms_mean), class: "number hide-narrow" },
  { title: "Last", cell: (row) => html`<${Time} at=${row.last} />`, class: "when" },
];

export function Subjects({ kind }) {
  const { title, path, to } = WORDS[kind];
  const shown = useData(path);
  const [needle, seek] = useState("");
  return html`<div class="title"><h1>${title}</h1>
      <input type="search" aria-label=${`Search ${title.toLowerCase()}`} placeholder="Search" onInput=${(event) => seek(event.target.value.toLowerCase())} /></div>
    <${Shown} of=${shown} rows=${8}>${(data) => html`<${Card}>
      <${Table} label=${title} columns=${columns} rows=${data.subjects.filter((row) => row.name.toLowerCase().includes(needle))} to=${(row) => to(row.name)}
        empty=${html`<${Empty} title=${needle ? "None is called so" : `No ${title.toLowerCase()} were evaluated yet`} text=${needle ? "" : kind === "tool" ? "evalfleet call word_count '{\"text\": \"a b c\"}' evaluates one." : "Submit jobs with --label model=NAME, or import past batches."} />`} />
    </${Card}>`}</${Shown}>`;
}
