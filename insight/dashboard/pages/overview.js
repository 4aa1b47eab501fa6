import { COLUMNS, Card, Empty, Options, Rate, Shown, Table, Tile, Time, WINDOWS, evaluation, html, useData } from "../parts.js";
import { Outcomes, Rates } from "../chart.js";
import { count, duration, percent, points } from "../format.js";
import { amend, href, moment, parameters } from "../router.js";
import { Insight } from "./insights.js";

const WORDS = { "24h": "24 hours", "7d": "7 days", "30d": "30 days", all: "all time" };

const rate = (hourly) => (hourly >= 100 ? `${count(Math.round(hourly))} an hour` : `${hourly.toFixed(1)} an hour`);

function change(now, before) {
  if (now.rate === null || before.rate === null || !before.tries) return null;
  return `${points(now.rate - before.rate)} points to the window before`;
}

/** Jobs that wait, whatever their lane. */
function waiting(queues) {
  if (!queues) return null;
  const of = (prefix) => queues.filter((queue) => queue.name.startsWith(prefix)).reduce((sum, queue) => sum + queue.messages, 0);
  const lanes = queues.filter((queue) => queue.name.startsWith("eval.jobs.") && queue.messages);
  const ages = lanes.map((queue) => queue.oldest_at_most_ms);
  const oldest = ages.includes(null) ? null : Math.max(0, ...ages);
  return { oldest, jobs: of("eval.jobs."), retries: of("eval.retry."), results: of("eval.results."), dead: of("eval.dead") };
}

/** The VMs of the workers that say how theirs are: spares that stand ready, claims, and those that had to wait for one. */
function supplies(workers) {
  const told = (workers ?? []).map((worker) => worker.now?.supply).filter(Boolean);
  if (!told.length) return null;
  const sum = (of) => told.reduce((total, supply) => total + (of(supply) || 0), 0);
  return { workers: told.length, ready: sum((supply) => supply.spare === "ready"), unable: sum((supply) => !supply.able), claims: sum((supply) => supply.claims), waits: sum((supply) => supply.waits) };
}

function Tiles({ data, fleet }) {
  const { standing, before, workers, dead_letters: dead, durations, waits, resets, series } = data;
  const hours = Math.max(1, (Date.parse(series.to) - Date.parse(series.from)) / 3_600_000);
  const vms = supplies(fleet);
  const queue = waiting(data.queues);
  const faults = standing.evaluations.infrastructure;
  const share = standing.evaluations.total ? faults / standing.evaluations.total : 0;
  return html`<div class="tiles">
    <${Tile} label="Evaluations" value=${count(standing.evaluations.total)} note=${`in ${WORDS[series.window]}, ${rate(standing.evaluations.total / hours)} · ${count(data.ever.evaluations.total)} ever`} href=${href("/evaluations")} />
    <${Tile} label="Success rate" value=${percent(standing.rate.rate)} title="Where the subject was put to the test"
      note=${standing.rate.tries ? `${percent(standing.rate.low)} to ${percent(standing.rate.high)}${change(standing.rate, before.rate) ? ` · ${change(standing.rate, before.rate)}` : ""}` : "nothing tested"} />
    <${Tile} label="Infrastructure faults" value=${count(faults)} tone=${faults ? "infrastructure" : ""} note=${`${percent(share)} of all, counted against nobody`} href=${href("/evaluations", { cause: "infrastructure" })} />
    <${Tile} label="Waiting jobs" value=${queue ? count(queue.jobs) : "–"} note=${queue ? `${queue.retries} for another try · ${queue.results} results to record` : moment() ? "not known of the past" : "the broker does not answer"} />
    <${Tile} label="Oldest job" value=${!queue || queue.oldest === null ? "–" : queue.jobs ? `≤ ${duration(queue.oldest)}` : "none"} title="How long the job that waits longest for a worker has waited at most: it came after its queue was last seen empty, and after the job that was taken last"
      note=${waits ? `lately waited: median ${duration(waits.p50_ms)} · 90 % within ${duration(waits.p90_ms)}` : "none measured"} />
    <${Tile} label="Dead letters" value=${count(dead.open)} tone=${dead.open ? "subject" : ""} note=${`not replayed, of ${count(dead.known)}`} href=${href("/dead-letters")} />
    <${Tile} label="Workers" value=${count(workers.active)} note=${`at work in the last hour, of ${workers.known}`} href=${href("/workers")} />
    <${Tile} label="Run time" value=${duration(durations?.p50_ms)} note=${durations ? `median · 90 % within ${duration(durations.p90_ms)}` : "none measured"} />
    <${Tile} label="Spare VMs" value=${vms ? count(vms.ready) : "–"} tone=${vms?.unable ? "subject" : ""} href=${href("/workers")}
      note=${vms ? `ready, of ${count(vms.workers)} workers · ${count(vms.waits)} of ${count(vms.claims)} jobs waited for one${vms.unable ? ` · ${count(vms.unable)} can make none` : ""}` : moment() ? "not known of the past" : "no worker of this machine says"} />
    <${Tile} label="Resets" value=${duration(resets?.p50_ms)} note=${resets ? `to make a clean VM, median · 90 % within ${duration(resets.p90_ms)}` : "none measured"} />
  </div>`;
}

const columns = [
  ...COLUMNS,
  { title: "Run time", cell: (row) => duration(row.wall_ms), class: "number" },
  { title: "Finished", cell: (row) => html`<${Time} at=${row.finished} relative=${!moment()} />`, class: "when" },
];

export function Overview() {
  const window = parameters().window ?? "auto";
  const shown = useData("/v1/overview", { window });
  const fleet = useData("/v1/workers");
  return html`<div class="title"><h1>Overview</h1>
      <${Options} label="Window" value=${window} options=${WINDOWS} onChange=${(name) => amend({ window: name === "auto" ? undefined : name })} /></div>
    <${Shown} of=${shown} rows=${12}>${(data) => !data.ever.evaluations.total && !data.recent.length
      ? html`<${Empty} title="Nothing was evaluated yet" text="Submit a job, or import past results: what comes of it appears here by itself."
          action=${html`<pre>evalfleet run -- sh -c 'echo hi > /workspace/a'\nevalfleet history import results_batch_*.json</pre>`} />`
      : html`<${Tiles} data=${data} fleet=${fleet.data?.workers} />
      <div class="columns">
        <${Card} title="Outcomes" extra=${html`<ul class="legend">${["passed", "subject", "budget", "infrastructure", "harness"].map((name) => html`<li><i class=${name} aria-hidden="true"></i>${name}</li>`)}</ul>`}>
          <${Outcomes} series=${data.series} /></${Card}>
        <${Card} title="Success rate" extra=${html`<span class="muted">with its 95 % band</span>`}><${Rates} series=${data.series} height=${200} /></${Card}>
      </div>
      <div class="columns wide-left">
        <${Card} title="Newest evaluations" extra=${html`<a href=${href("/evaluations")}>All</a>`}>
          <${Table} label="Newest evaluations" columns=${columns} rows=${data.recent} to=${(row) => evaluation(row.id)} /></${Card}>
        <${Card} title="What stands out" extra=${html`<a href=${href("/insights")}>All</a>`}>
          ${data.insights.length ? html`<ul class="insights small">${data.insights.map((insight) => html`<${Insight} key=${insight.id} insight=${insight} small=${true} />`)}</ul>`
            : html`<p class="muted calm">Nothing: rates, durations and machines are as they were.</p>`}
          <p class="muted small-print">Ever: <${Rate} rate=${data.ever.rate} /></p></${Card}>
      </div>`}</${Shown}>`;
}
