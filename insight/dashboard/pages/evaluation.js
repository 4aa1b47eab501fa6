import { COLUMNS, Card, Cause, Copy, Dot, Empty, Facts, Outcome, Shown, Table, Time, evaluation, html, model, tool, useData, useEffect, useRef, useState } from "../parts.js";
import { listen } from "../api.js";
import { Stages } from "../chart.js";
import { Effects } from "../effects.js";
import { Again, Replay, useOperator } from "../replay.js";
import { brief, bytes, count, duration, percent, short, time } from "../format.js";
import { href, moment } from "../router.js";

function Output({ name, output }) {
  if (!output?.bytes) return html`<p class="muted">Nothing.</p>`;
  return html`<pre class="output" tabindex="0" aria-label=${name}>${output.text}</pre>
    <p class="muted small-print">${bytes(output.bytes)}${output.truncated ? html`, of which this is the beginning · <a href=${`/v1/blobs/${output.sha256}`} download>the whole</a>` : ""}</p>`;
}

function Outputs({ data }) {
  const [tab, choose] = useState(data.stdout?.bytes || !data.stderr?.bytes ? "stdout" : "stderr");
  const names = [["stdout", "Standard output"], ["stderr", "Standard error"]];
  const key = (event) => {
    if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
    choose(tab === "stdout" ? "stderr" : "stdout");
    event.currentTarget.parentElement.querySelector(`[aria-selected=false]`)?.focus();
  };
  return html`<${Card} title="Output" extra=${html`<div class="options" role="tablist">${names.map(([name, text]) => html`
      <button type="button" role="tab" id=${`tab-${name}`} aria-selected=${String(tab === name)} aria-controls="output" tabindex=${tab === name ? 0 : -1} class=${tab === name ? "on" : ""} onClick=${() => choose(name)} onKeyDown=${key}>${text}${data[name]?.bytes ? ` (${bytes(data[name].bytes)})` : ""}</button>`)}</div>`}>
    <div role="tabpanel" id="output" aria-labelledby=${`tab-${tab}`}><${Output} name=${tab} output=${data[tab]} /></div></${Card}>`;
}

function Calls({ calls }) {
  if (!calls?.length) return null;
  return html`<${Card} title="Calls">${calls.map((call) => html`<div class="call">
    <a href=${tool(call.name)}><code>${call.name}</code></a> <span class="muted">${duration(call.duration_ms)}${call.exit_code !== null && call.exit_code !== undefined ? ` · exit ${call.exit_code}` : ""}${call.success_rate !== null && call.success_rate !== undefined ? ` · rate ${percent(call.success_rate, 0)}` : ""}</span>
    ${call.value !== null && call.value !== undefined && html`<pre class="output" tabindex="0" aria-label=${`What ${call.name} answered`}>${JSON.stringify(call.value, null, 2)}</pre>`}</div>`)}</${Card}>`;
}

const METRICS = [
  ["wall_ms", "On the clock", duration], ["cpu_user_ms", "Processor, user", duration], ["cpu_system_ms", "Processor, system", duration],
  ["memory_peak_bytes", "Memory, peak", bytes], ["disk_read_bytes", "Disk, read", bytes], ["disk_written_bytes", "Disk, written", bytes],
  ["net_rx_bytes", "Network, received", bytes], ["net_tx_bytes", "Network, sent", bytes],
];

/** What it used as the host saw it, with the guest's opinion beside. */
function Metrics({ metrics }) {
  const measured = METRICS.filter(([key]) => metrics[key]);
  if (!measured.length) return html`<p class="muted">None were measured.</p>`;
  const groups = [["_ms", Math.max(...METRICS.map(([key]) => (key.endsWith("_ms") ? (metrics[key] ?? 0) : 0)))], ["_bytes", Math.max(...METRICS.map(([key]) => (key.endsWith("_bytes") ? (metrics[key] ?? 0) : 0)))]];
  const most = (key) => groups.find(([end]) => key.endsWith(end))[1] || 1;
  return html`<table class="metrics"><tbody>${measured.map(([key, name, format]) => html`<tr><th scope="row">${name}</th>
    <td class="number">${format(metrics[key])}</td>
    <td class="metric-bar" aria-hidden="true"><span style=${{ width: `${(metrics[key] / most(key)) * 100}%` }}></span></td>
    <td class="muted">${metrics.guest?.[key] !== undefined ? `guest: ${format(metrics.guest[key])}` : ""}</td></tr>`)}</tbody></table>`;
}

function Provenance({ data }) {
  const { provenance: from, timings } = data;
  const digest = (text) => text && html`<${Copy} text=${text} />`;
  return html`<${Card} title="Provenance"><${Facts} of=${[
    ["Worker", from.worker && html`<a href=${href("/evaluations", { worker: from.worker })}>${from.worker}</a>`], ["Host", from.host], ["Accelerator", from.accelerator], ["QEMU", from.qemu],
    ["Image", from.image && html`<a href=${href("/evaluations", { image: from.image })} title=${from.image}><code>${short(from.image)}</code></a>`], ["Template", digest(from.template)], ["Lane", from.lane], ["Attempt", from.attempt],
    ["Content key", digest(from.content_key)], ["Submitted", html`<${Time} at=${data.submitted} />`], ["Started", html`<${Time} at=${data.started} />`], ["Finished", html`<${Time} at=${data.finished} />`],
    ["In all", timings && duration(Date.parse(data.finished) - Date.parse(data.submitted))],
  ]} /></${Card}>`;
}

function Reset({ reset }) {
  if (!reset) return html`<${Card} title="Reset"><p class="muted">No VM was made for it.</p></${Card}>`;
  return html`<${Card} title="Reset" extra=${html`<span class="badge passed"><span aria-hidden="true">✓</span> proved clean</span>`}>
    <${Facts} of=${[["How", reset.strategy], ["Took", `${duration(reset.ms)}, ${duration(reset.hidden_ms)} of it while no job waited`],
      ["Pages compared", `${count(reset.pages_checked)} with the template, before its first instruction`], ["Nonce", reset.nonce && html`<${Copy} text=${reset.nonce} />`]]} /></${Card}>`;
}

function Network({ contacts, omitted }) {
  if (!contacts?.length) return null;
  const columns = [
    { title: "Destination", cell: (row) => html`<code>${row.name ?? row.destination ?? "–"}${row.port ? `:${row.port}` : ""}</code>` },
    { title: "Protocol", cell: (row) => row.protocol }, { title: "Attempts", cell: (row) => count(row.attempts), class: "number" },
    { title: "Allowed", cell: (row) => (row.allowed ? "yes" : html`<span class="badge subject">refused</span>`) }, { title: "Error", cell: (row) => row.error ?? "" },
  ];
  return html`<${Card} title="Network" extra=${omitted ? html`<span class="muted">${omitted} more attempts</span>` : null}><${Table} label="Network" columns=${columns} rows=${contacts} /></${Card}>`;
}

function Attempts({ attempts }) {
  if (!attempts?.length) return null;
  return html`<${Card} title="Attempts before"><ol class="evidence">${attempts.map((attempt) => html`<li><strong>${attempt.number}</strong> by ${attempt.worker}, <${Cause} cause=${attempt.cause} />, ended <${Time} at=${attempt.ended} /><span class="why long">${attempt.error}</span></li>`)}</ol></${Card}>`;
}

function Evidence({ evidence, warnings }) {
  if (!evidence?.length && !warnings?.length) return null;
  return html`<${Card} title="Evidence"><ul class="evidence">
    ${(evidence ?? []).map((one) => html`<li><span class="tag">${one.source}</span> ${one.message}</li>`)}
    ${(warnings ?? []).map((text) => html`<li><span class="tag warn">warning</span> ${text}</li>`)}</ul></${Card}>`;
}

function Artifacts({ artifacts }) {
  if (!artifacts?.length) return null;
  return html`<${Card} title="Files kept"><ul class="evidence">${artifacts.map((one) => html`<li><code>${one.path}</code> <span class="muted">${bytes(one.bytes)}</span>
    ${one.sha256 ? html` <a href=${`/v1/blobs/${one.sha256}`} download>fetch</a>` : html` <span class="tag warn">${one.error}</span>`}</li>`)}</ul></${Card}>`;
}

const columns = [...COLUMNS, { title: "Run time", cell: (row) => duration(row.wall_ms), class: "number" }, { title: "Finished", cell: (row) => html`<${Time} at=${row.finished} />`, class: "when" }];

function Surroundings({ context }) {
  const may = useOperator();
  const list = (title, rows) => rows.length > 0 && html`<${Card} title=${title}><${Table} label=${title} columns=${columns} rows=${rows} to=${(row) => evaluation(row.id)} /></${Card}>`;
  const { evaluation: own, neighbours } = context;
  const outcome = (row) => row.cause ?? "passed";
  return html`
    ${context.dead_letter && html`<${Card} title="Dead letter" class="alert" extra=${html`<a href=${href(`/dead-letters/${encodeURIComponent(context.dead_letter.id)}`)}>All of it</a>`}><${Facts} of=${[["Reason", context.dead_letter.reason?.replaceAll("_", " ")], ["Tries", context.dead_letter.attempts], ["Given up", html`<${Time} at=${context.dead_letter.died} />`],
      ["Last error", context.dead_letter.error], ["Replayed as", context.dead_letter.replayed_by ? html`<a href=${evaluation(context.dead_letter.replayed_by)}>${brief(context.dead_letter.replayed_by)}</a>` : may ? html`<${Replay} ids=${[context.dead_letter.id]} text="Replay" />` : html`<code>evalfleet dead replay ${own.id}</code>`]]} /></${Card}>`}
    ${list("Repeated by", context.replays)}
    ${list(`Parts (${own.parts ? count(own.parts.total) : context.parts.length})`, context.parts)}
    ${neighbours.length > 0 && html`<${Card} title=${own.case ? "The same case, before and after" : "The same tool, before and after"}>
      <p class="dots">${[...neighbours].reverse().map((row) => html`<${Dot} outcome=${outcome(row)} href=${evaluation(row.id)} title=${`${time(row.finished)}: ${outcome(row)}`} />`)}</p></${Card}>`}`;
}

/** A job that is not recorded yet: what its worker tells of it. */
function Underway({ id, problem }) {
  const [news, add] = useState({ text: "", lines: [] });
  const end = useRef(null);
  useEffect(() => {
    const source = new EventSource(`/v1/events?job=${encodeURIComponent(id)}`);
    source.addEventListener("job", (event) => {
      const one = JSON.parse(event.data);
      add((before) => one.event === "output" ? { ...before, text: (before.text + one.text).slice(-100_000) } : { ...before, lines: [...before.lines.slice(-20), one] });
    });
    return () => source.close();
  }, [id]);
  useEffect(() => end.current?.scrollIntoView?.({ block: "nearest" }), [news]);
  const words = (one) => ({
    started: `taken by ${one.worker}, attempt ${one.attempt}`, retried: `attempt ${one.attempt} ended in a fault of ours: ${one.error}`,
    progress: `${duration(one.elapsed_ms)} on the clock, ${duration(one.cpu_ms)} on the processors, ${bytes(one.memory_bytes)}`,
  })[one.event];
  return html`<${Empty} title=${moment() ? "Not known at that moment" : "Not recorded yet"} text=${moment() ? problem.message : "If it waits or runs, this page shows what its worker tells of it, and its result when that is recorded."} />
    ${(news.lines.length > 0 || news.text) && html`<${Card} title="Under way"><ul class="evidence">${news.lines.map((one) => html`<li><span class="tag">${one.event}</span> ${words(one)}</li>`)}</ul>
      ${news.text && html`<pre class="output">${news.text}<span ref=${end}></span></pre>`}</${Card}>`}`;
}

function Imported({ data, own }) {
  const facts = Object.entries(data).filter(([, value]) => typeof value !== "object").map(([name, value]) => [name.replace("evaluation/", ""), String(value)]);
  return html`<div class="columns"><${Card} title="Facts"><${Facts} of=${facts} /></${Card}>
    <${Card} title="Functions called">${(data["evaluation/function-calls"] ?? []).map((call) => html`<div class="call"><a href=${tool(call["function-call/name"])}><code>${call["function-call/name"]}</code></a>
      <span class="muted"> ${percent(call["function-call/success-rate"])} of ${count(call["function-call/count"] ?? 1)}</span></div>`)}
      ${own?.parts && html`<p class="muted">${count(own.parts.passed)} of ${count(own.parts.total)} parts passed; ${count(own.parts.infrastructure)} failed for no fault of theirs.</p>`}</${Card}></div>`;
}

export function Evaluation({ id }) {
  const path = `/v1/evaluations/${encodeURIComponent(id)}`;
  const [tries, again] = useState(0);
  const shown = useData(path, {}, { live: false });
  const around = useData(`${path}/context`, {});
  const absent = shown.error?.status === 404;
  // What is not there yet is asked for again when something was recorded; what is there never changes.
  useEffect(() => (absent && !moment() ? listen((kind, data) => kind === "recorded" && data.evaluations.some((one) => one.id === id) && again(tries + 1)) : undefined), [absent, tries]);
  if (absent && around.data && !shown.loading) return html`<${Evaluation} key=${`${id}-${around.data.basis_t}`} id=${id} />`;
  if (absent) return html`<div class="title"><h1><code>${short(id, 40)}</code></h1></div><${Underway} id=${id} problem=${shown.error} />`;
  const own = around.data?.evaluation;
  return html`<${Shown} of=${shown} rows=${14}>${(data) => {
    const imported = data.schema === undefined;
    return html`
    <div class="title"><h1>${own?.tool ?? own?.case ?? data.kind ?? "Evaluation"}</h1>
      <${Outcome} status=${own?.status ?? data.status} cause=${own?.cause ?? data.cause} rate=${own?.success_rate} />
      <${Copy} text=${id} shown=${short(id, 40)} label="Copy the id" />
      ${!imported && data.status !== "dead" && html`<span class="title-end"><${Again} id=${id} why=${data.provenance.job ? undefined : (data.provenance.job_withheld ?? "What it asked was not kept")} /></span>`}</div>
    <p class="under-title">
      ${own && html`<span>Cause <${Cause} cause=${own.cause} /></span>`}
      ${own?.model && html`<span>Model <a href=${model(own.model)}>${own.model}</a></span>`}
      ${own?.batch && html`<span>Batch <a href=${evaluation(own.batch)}>${brief(own.batch)}</a></span>`}
      ${own?.run && html`<span>Run <a href=${href(`/runs/${encodeURIComponent(own.run)}`)}>${own.run}</a></span>`}
      ${data.kind === "batch" || own?.kind === "batch" ? html`<span><a href=${href(`/runs/${encodeURIComponent(id)}`, { kind: "batch" })}>As a run</a></span>` : null}
      ${own?.case && html`<span>Case <a href=${href("/evaluations", { case: own.case })}>${short(own.case, 60)}</a></span>`}
      ${own?.replay_of && html`<span>Repeats <a href=${evaluation(own.replay_of)}>${brief(own.replay_of)}</a></span>`}
      ${own && html`<span>Finished <${Time} at=${own.finished} /></span>`}
    </p>
    ${own?.labels.length > 0 && html`<p class="chips">${own.labels.map((label) => html`<a class="chip" href=${href("/evaluations", { label })}>${label}</a>`)}</p>`}
    ${imported ? html`<${Imported} data=${data} own=${own} />` : html`
      <${Card} title="Where the time went"><${Stages} timings=${data.timings} /></${Card}>
      <${Evidence} evidence=${data.evidence} warnings=${data.warnings} />
      <div class="columns wide-left">
        <div>
          <${Calls} calls=${data.calls} />
          <${Outputs} data=${data} />
          <${Card} title="Effects" extra=${html`<span class="muted">${count(data.effects.length)}${data.processes_left ? ` · ${data.processes_left} processes left running` : ""}</span>`}><${Effects} effects=${data.effects} omitted=${data.effects_omitted} id=${id} /></${Card}>
          <${Network} contacts=${data.network} omitted=${data.network_omitted} />
          <${Artifacts} artifacts=${data.artifacts} />
        </div>
        <div>
          <${Card} title="Metrics" extra=${html`<span class="muted">measured from the host</span>`}><${Metrics} metrics=${data.metrics} /></${Card}>
          <${Reset} reset=${data.provenance.reset} />
          <${Provenance} data=${data} />
          <${Attempts} attempts=${data.attempts} />
        </div>
      </div>`}
    ${around.data && html`<${Surroundings} context=${around.data} />`}
    <details class="raw"><summary>The document</summary><pre class="output" tabindex="0">${JSON.stringify(data, null, 2)}</pre></details>`;
  }}</${Shown}>`;
}
