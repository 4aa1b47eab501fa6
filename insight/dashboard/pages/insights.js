import { Empty, Options, Shown, Time, evaluation, html, useData, useState } from "../parts.js";
import { brief, count } from "../format.js";
import { href } from "../router.js";

const KINDS = {
  consistently_fails: "fails", dropped: "rate dropped", slower: "duration", cluster: "failures alike", driver: "driver", flaky: "flaky", outlier: "outlier", infrastructure: "infrastructure",
};
const MARKS = { critical: ["subject", "!"], warning: ["budget", "▲"], info: ["batch", "i"] };

export function Insight({ insight, small }) {
  const [tone, mark] = MARKS[insight.severity];
  const [open, turn] = useState(false);
  return html`<li class="insight ${tone}">
    <span class="insight-mark" title=${insight.severity}><span aria-hidden="true">${mark}</span><span class="sr">${insight.severity}</span></span>
    <div><h3>${insight.title}</h3><p>${insight.statement}</p>
      ${!small && html`<p class="insight-foot"><span class="tag">${KINDS[insight.kind] ?? insight.kind}</span>
        ${insight.since && html`<span class="muted">since <${Time} at=${insight.since} /></span>`}
        <a href=${href("/evaluations", insight.filter)}>The evaluations</a>
        ${insight.evaluations.map((id) => html`<a href=${evaluation(id)}><code>${brief(id)}</code></a>`)}
        <button type="button" class="plain" aria-expanded=${String(open)} onClick=${() => turn(!open)}>Numbers</button></p>
      ${open && html`<pre class="output" tabindex="0">${JSON.stringify(insight.numbers, null, 2)}</pre>`}`}
      ${small && html`<p class="insight-foot"><a href=${href("/evaluations", insight.filter)}>The evaluations</a></p>`}
    </div></li>`;
}

export function Insights() {
  const shown = useData("/v1/insights");
  const [severity, choose] = useState("all");
  return html`<div class="title"><h1>Insights</h1>
      <${Options} label="Severity" value=${severity} options=${[["all", "All"], ["critical", "Critical"], ["warning", "Warning"], ["info", "Info"]]} onChange=${choose} /></div>
    <${Shown} of=${shown} rows=${8}>${(data) => {
      const wanted = data.insights.filter((insight) => severity === "all" || insight.severity === severity);
      return html`<p class="muted">Out of the newest ${count(data.looked_at)} evaluations. Infrastructure's failures count against no subject.</p>
        ${wanted.length ? html`<ul class="insights">${wanted.map((insight) => html`<${Insight} key=${insight.id} insight=${insight} />`)}</ul>`
          : html`<${Empty} title="Nothing stands out" text="Rates, durations and machines are as they were, as far as chance allows to say." />`}`;
    }}</${Shown}>`;
}
