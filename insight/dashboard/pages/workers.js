import { Card, Causes, Empty, Rate, Shown, Table, Time, html, useData, useState } from "../parts.js";
import { send } from "../api.js";
import { count, duration, percent } from "../format.js";
import { href } from "../router.js";
import { useOperator } from "../replay.js";

function State({ now }) {
  const supply = now?.supply;
  if (!supply) return html`<span class="muted">–</span>`;
  if (supply.drained) return html`<span class="badge harness" title=${supply.drained}><span aria-hidden="true">⏸</span> drained</span>`;
  return supply.able
    ? html`<span class="badge passed" title="It can make VMs"><span aria-hidden="true">●</span> spare ${supply.spare}</span>`
    : html`<span class="badge subject" title=${supply.why}><span aria-hidden="true">✕</span> makes no VMs</span>`;
}

/** Keeps jobs from a worker, at the second click, or lets it take them again. What it says of itself follows when it has heard. */
function Drain({ row }) {
  const [state, go] = useState({ at: "rest" });
  const say = async (wanted) => {
    go({ at: "saying" });
    try {
      await send("POST", `/v1/workers/${encodeURIComponent(row.name)}/${wanted}`, wanted === "drain" ? { reason: "drained on the dashboard" } : undefined);
      go({ at: "said" });
    } catch (error) {
      go({ at: "rest", message: error.message });
    }
  };
  const button = (text, act, kind = "") => html`<button type="button" class="button small ${kind}" disabled=${state.at === "saying"} onClick=${act} aria-label="${text} ${row.name}">${text}</button>`;
  if (state.at === "said") return html`<span role="status" class="muted">It is told.</span>`;
  if (state.message) return html`<span role="alert" class="notice error">${state.message} ${button("Back", () => go({ at: "rest" }))}</span>`;
  if (row.now?.supply?.drained) return button("Resume", () => say("resume"));
  if (state.at === "asked") return html`${button("Take no more jobs", () => say("drain"), "primary")} ${button("Cancel", () => go({ at: "rest" }))}`;
  return button("Drain", () => go({ at: "asked" }));
}

const columns = [
  { title: "Worker", cell: (row) => html`${row.name}`, class: "id" },
  { title: "Now", cell: (row) => html`<${State} now=${row.now} />` },
  { title: "Success rate", cell: (row) => html`<${Rate} rate=${row.standing.rate} />` },
  { title: "Outcomes", cell: (row) => html`<${Causes} causes=${row.standing.evaluations} />` },
  { title: "Faults of its own", cell: (row) => percent(row.standing.evaluations.total ? row.standing.evaluations.infrastructure / row.standing.evaluations.total : null), class: "number" },
  { title: "Evaluations", cell: (row) => count(row.standing.evaluations.total), class: "number" },
  { title: "Clean VM", cell: (row) => duration(row.resets?.p50_ms), class: "number hide-narrow" },
  { title: "Jobs waited", cell: (row) => (row.now?.supply ? `${count(row.now.supply.waits)} of ${count(row.now.supply.claims)}` : duration(row.claims?.p50_ms)), class: "number hide-narrow" },
  { title: "Host", cell: (row) => html`${row.host ?? "–"} <span class="tag">${row.accelerator ?? "?"}</span>`, class: "hide-narrow" },
  { title: "Last", cell: (row) => html`<${Time} at=${row.last} />`, class: "when" },
];
/** For those who may. */
const control = { title: "Jobs", cell: (row) => html`<${Drain} key=${`${row.name} ${row.now?.supply?.drained ?? ""}`} row=${row} />` };

export function Workers() {
  const shown = useData("/v1/workers");
  const queues = useData("/v1/queues", { as_of: "" });
  const may = useOperator();
  return html`<div class="title"><h1>Workers</h1></div>
    <${Shown} of=${shown} rows=${5}>${(data) => html`<${Card}>
      <${Table} label="Workers" columns=${may ? [...columns, control] : columns} rows=${data.workers} to=${(row) => href("/evaluations", { worker: row.name })}
        empty=${html`<${Empty} title="No worker has finished anything yet" text="evalfleet up --workers 2 starts two." />`} /></${Card}>`}</${Shown}>
    <${Shown} of=${queues} rows=${4}>${(data) => html`<${Card} title="Queues" extra=${html`<span class="muted">at the broker, now</span>`}>
      ${data.queues ? html`<${Table} label="Queues" rows=${data.queues} columns=${[
        { title: "Queue", cell: (row) => html`<code>${row.name}</code>`, class: "id" },
        { title: "Waiting", cell: (row) => count(row.messages), class: "number" },
        { title: "Consumers", cell: (row) => count(row.consumers), class: "number" }]} />`
        : html`<p class="muted calm">The broker does not answer: <code>evalfleet status</code> says how the parts are.</p>`}</${Card}>`}</${Shown}>`;
}
