import { Card, Dot, Empty, Shown, Table, Time, evaluation, html, useData, useRef, useState } from "../parts.js";
import { get } from "../api.js";
import { brief, count } from "../format.js";
import { Replay, useOperator } from "../replay.js";
import { amend, href, parameters } from "../router.js";

/** The most letters that are replayed at once, as the API lists them. */
const BULK_MAX = 1000;
const SHOWN = 200;

/** The address of a letter's page. */
export const letter = (id) => href(`/dead-letters/${encodeURIComponent(id)}`);

const columns = (may) => [
  { title: "Letter", cell: (row) => html`<code>${brief(row.id)}</code>`, class: "id" },
  { title: "Reason", cell: (row) => html`<span class="badge subject">${row.reason?.replaceAll("_", " ")}</span>` },
  { title: "What", class: "wide", cell: (row) => html`<span class="what">${row.tool ?? row.kind?.replaceAll("_", " ") ?? "unreadable"}</span><span class="why long">${row.error}</span>` },
  { title: "Tries", cell: (row) => count(row.attempts), class: "number" },
  { title: "Replayed as", cell: (row) => row.replayed_by ? html`<span class="chips">${row.replay_outcome && html`<${Dot} outcome=${row.replay_outcome} href=${evaluation(row.replayed_by)} title=${row.replay_outcome} />`}<a href=${evaluation(row.replayed_by)}><code>${brief(row.replayed_by)}</code></a></span>` : may ? html`<${Replay} ids=${[row.id]} text="Replay" />` : html`<span class="muted">not yet</span>` },
  { title: "Given up", cell: (row) => html`<${Time} at=${row.died} />`, class: "when" },
];

/** Those of a list that nobody has replayed. */
const waiting = (rows) => rows.filter((row) => !row.replayed_by).map((row) => row.id);

/** What came of the replays of these letters, as the list tells it: how many passed, or failed by whose doing. */
function came(rows, ids) {
  const outcomes = {};
  for (const row of rows) {
    if (row.replay_outcome && ids.includes(row.id)) outcomes[row.replay_outcome] = (outcomes[row.replay_outcome] ?? 0) + 1;
  }
  return outcomes;
}

export function Dead() {
  const asked = parameters();
  const wait = useRef(0);
  const may = useOperator();
  const [bulk, begin] = useState(false);
  const which = { reason: asked.reason, q: asked.q };
  const shown = useData("/v1/dead-letters", { ...which, limit: bulk ? BULK_MAX : SHOWN });
  const typed = (event) => {
    clearTimeout(wait.current);
    const { value } = event.target;
    wait.current = setTimeout(() => amend({ q: value.trim() || undefined }), 250);
  };
  // From here on the whole list is followed: what comes of its replays is told as it is recorded.
  const find = async () => {
    begin(true);
    return waiting((await get("/v1/dead-letters", { ...which, limit: BULK_MAX })).dead_letters);
  };
  return html`<div class="title"><h1>Dead letters</h1><input type="search" aria-label="Search dead letters" placeholder="Search letter or error" value=${asked.q ?? ""} onInput=${typed} maxlength="200" /></div>
    <${Shown} of=${shown} rows=${6}>${(data) => {
      const rows = data.dead_letters;
      const open = waiting(rows);
      return html`
      <div class="chips bar">
        <button type="button" class="chip ${asked.reason ? "" : "on"}" onClick=${() => amend({ reason: undefined })}>all ${count(data.count)}</button>
        ${Object.entries(data.reasons).map(([reason, number]) => html`<button type="button" class="chip ${asked.reason === reason ? "on" : ""}" aria-pressed=${String(asked.reason === reason)} onClick=${() => amend({ reason })}>${reason.replaceAll("_", " ")} ${count(number)}</button>`)}
        <span class="muted">${count(data.open)} not replayed</span>
        ${may && data.count > 0 && html`<span class="bar-end"><${Replay} key=${`${asked.reason} ${asked.q}`} text="Replay all of this list" idle=${open.length === 0}
          find=${find} came=${(ids) => came(rows, ids)} /></span>`}
      </div>
      <${Card}><${Table} label="Dead letters" columns=${columns(may)} rows=${rows.slice(0, SHOWN)} to=${(row) => letter(row.id)}
        empty=${html`<${Empty} title="No dead letters" text=${data.count ? "None fits." : "Every job could be run."} />`} /></${Card}>
      ${rows.length >= SHOWN && html`<p class="notice">The newest ${count(SHOWN)} that fit are shown. A replay takes up to ${count(BULK_MAX)} at once.</p>`}
      ${data.open > 0 && html`<p class="muted">Replay one with <code>evalfleet dead replay JOB</code>, all with <code>evalfleet dead replay --all</code>; <code>--dry-run</code> first says what would be done.</p>`}`;
    }}</${Shown}>`;
}
