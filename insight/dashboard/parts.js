// What pages are made of.

import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";
import { get, listen } from "./api.js";
import { ago, brief, count, percent, short, time } from "./format.js";
import { href, moment } from "./router.js";

export { html, useEffect, useRef, useState };
export { useMemo, useCallback } from "./vendor/preact-htm.js";

export const OUTCOMES = {
  passed: ["passed", "✓", "Passed"],
  subject: ["subject", "✕", "The subject's doing"],
  budget: ["budget", "◔", "A limit was exceeded"],
  infrastructure: ["infrastructure", "⚡", "A machine's or a service's doing; not counted against the subject"],
  harness: ["harness", "?", "The request's doing; not counted against the subject"],
};

/** The address of one evaluation. */
export const evaluation = (id) => href(`/evaluations/${encodeURIComponent(id)}`);
export const tool = (name) => href(`/tools/${encodeURIComponent(name)}`);
export const model = (name) => href(`/models/${encodeURIComponent(name)}`);

/**
 * What the API answers at `path`, asked again when something was recorded. What was shown stays until the
 * new answer is there, so that nothing jumps.
 */
export function useData(path, parameters = {}, { live = true } = {}) {
  const key = path && `${path}?${new URLSearchParams(Object.entries(parameters).filter(([, value]) => value))}&${moment() ?? ""}`;
  const [shown, show] = useState({ data: null, error: null, key: null });
  const asking = useRef(null);
  useEffect(() => {
    if (!path) return undefined;
    let waiting = 0;
    let asked = 0;
    const ask = () => {
      waiting = 0;
      asked = Date.now();
      asking.current?.abort();
      const controller = (asking.current = new AbortController());
      get(path, parameters, controller.signal).then(
        (data) => show({ data, error: null, key }),
        (error) => error.name !== "AbortError" && show((before) => ({ data: before.key === key ? before.data : null, error, key })),
      );
    };
    ask();
    const follows = live && !moment();
    const end = follows
      ? listen((kind) => {
          // At once; but however much is recorded, twice a second is often enough.
          if ((kind === "recorded" || kind === "missed") && !waiting) waiting = setTimeout(ask, Math.max(0, asked + 500 - Date.now()));
        })
      : () => {};
    return () => {
      end();
      clearTimeout(waiting);
      asking.current?.abort();
    };
  }, [key, live]);
  return { ...shown, loading: shown.key !== key };
}

/** Shows what `useData` gave: a skeleton, an error with what helps, or the content. */
export function Shown({ of: { data, error, loading }, children, rows = 6 }) {
  if (error && !data) {
    if (error.status === 401) return html`<${Empty} title="Log in first" text="The API wants a token." action=${html`<a class="button" href="/login">Log in</a>`} />`;
    return html`<${Empty} kind="error" title=${error.title} text=${error.message} />`;
  }
  if (!data) return html`<div class="skeleton" aria-busy="true" aria-label="Loading">${Array.from({ length: rows }, () => html`<div></div>`)}</div>`;
  return html`<div class=${`shown ${loading ? "stale" : ""}`}>
    ${error && html`<p class="notice error" role="alert">${error.message}</p>`}
    ${children(data)}
  </div>`;
}

export function Empty({ title, text, kind = "", action }) {
  return html`<div class="empty ${kind}" role=${kind ? "alert" : "status"}>
    <div class="empty-mark" aria-hidden="true">${kind === "error" ? "!" : "∅"}</div>
    <h2>${title}</h2>${text && html`<p>${text}</p>`}${action}
  </div>`;
}

export function Outcome({ status, cause, rate }) {
  if (!status) {
    const word = rate === null || rate === undefined ? "–" : percent(rate, 0);
    return html`<span class="badge batch" title="A batch: the share of its parts that passed">${word}</span>`;
  }
  const [name, mark, title] = OUTCOMES[cause ?? "passed"] ?? OUTCOMES.harness;
  return html`<span class="badge ${name}" title=${title}><span aria-hidden="true">${mark}</span> ${status.replaceAll("_", " ")}</span>`;
}

export const Cause = ({ cause }) => (cause ? html`<span class="cause ${cause}">${cause}</span>` : html`<span class="muted">–</span>`);

export function Dot({ outcome, title, href: to }) {
  const [name, mark] = OUTCOMES[outcome] ?? OUTCOMES.harness;
  return html`<a class="dot ${name}" href=${to} title=${title} aria-label=${title}><span aria-hidden="true">${mark}</span></a>`;
}

/** A rate with its bounds, as a number and as a bar. */
export function Rate({ rate, label = "" }) {
  if (!rate || rate.rate === null) return html`<span class="muted" title="never put to the test">–</span>`;
  const title = `${label}${rate.passed} of ${rate.tries}; the true rate lies between ${percent(rate.low)} and ${percent(rate.high)} (Wilson, 95 %)`;
  return html`<span class="rate" title=${title}>
    <span class="rate-number">${percent(rate.rate)}</span>
    <svg class="rate-bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
      <rect class="rate-all" width="100" height="8" rx="2" />
      <rect class="rate-band" x=${rate.low * 100} width=${Math.max(0.5, (rate.high - rate.low) * 100)} height="8" rx="2" />
      <rect class="rate-mark" x=${Math.min(98.5, Math.max(0, rate.rate * 100 - 0.75))} width="1.5" height="8" />
    </svg>
    <span class="rate-of muted">${count(rate.passed)} / ${count(rate.tries)}</span>
  </span>`;
}

/** The shares of what ended how. */
export function Causes({ causes }) {
  const total = Math.max(1, causes.total);
  const names = Object.keys(OUTCOMES).filter((name) => causes[name]);
  const text = names.map((name) => `${causes[name]} ${name}`).join(", ") || "none";
  return html`<span class="causes" role="img" aria-label=${text} title=${text}>
    ${names.map((name) => html`<span class=${name} style=${{ flexGrow: (causes[name] / total) * 100 }}></span>`)}
  </span>`;
}

export function Spark({ values }) {
  if (!values?.length) return html`<span class="muted">–</span>`;
  const step = 100 / Math.max(1, values.length);
  return html`<svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img"
      aria-label=${`rate by day: ${values.map((value) => percent(value, 0)).join(", ")}`}>
    ${values.map((value, index) => value === null ? null : html`<rect x=${index * step + 0.5} y=${24 - Math.max(2, value * 24)}
      width=${Math.max(1, step - 1.5)} height=${Math.max(2, value * 24)} rx="1" class=${value < 0.5 ? "low" : ""} />`)}
  </svg>`;
}

export const Time = ({ at, relative }) =>
  html`<time datetime=${at} title=${`${time(at)} UTC`}>${relative ? ago(at) : time(at)}</time>`;

export function Copy({ text, shown = short(text), label = "Copy" }) {
  const [done, tell] = useState(false);
  const copy = () => navigator.clipboard?.writeText(text).then(() => {
    tell(true);
    setTimeout(() => tell(false), 1200);
  });
  return html`<button type="button" class="copy" onClick=${copy} title=${`${label}: ${text}`}>
    <code>${shown}</code><svg viewBox="0 0 24 24" aria-hidden="true"><path d=${done ? "M5 13l4 4L19 7" : "M9 9h10v11H9zM5 15V4h10"} /></svg><span class="sr" role="status">${done ? "copied" : ""}</span>
  </button>`;
}

export function Card({ title, extra, children, class: name = "", id }) {
  return html`<section class="card ${name}" id=${id} aria-label=${typeof title === "string" ? title : undefined}>
    ${title && html`<header><h2>${title}</h2>${extra && html`<div class="extra">${extra}</div>`}</header>`}
    ${children}
  </section>`;
}

export function Tile({ label, value, note, tone = "", href: to, title }) {
  const inside = html`<span class="tile-label">${label}</span><span class="tile-value ${tone}">${value}</span><span class="tile-note">${note ?? " "}</span>`;
  return to ? html`<a class="tile" href=${to} title=${title}>${inside}</a>` : html`<div class="tile" title=${title}>${inside}</div>`;
}

/**
 * A table whose rows are links: arrows or j and k go from row to row, Enter opens one. `columns` are
 * `{ name, title, cell, sort, class }`.
 */
export function Table({ columns, rows, to, sort, onSort, label, empty }) {
  const body = useRef(null);
  if (!rows.length) return empty ?? html`<${Empty} title="Nothing here" />`;
  const move = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target.closest("tr");
    if (step && row) {
      event.preventDefault();
      const all = [...body.current.children];
      all[all.indexOf(row) + step]?.querySelector("a")?.focus();
    }
  };
  const open = (event, row) => {
    if (!to || event.target.closest("a, button") || getSelection().toString()) return;
    event.currentTarget.querySelector("a.row-link")?.click();
  };
  return html`<div class="table-frame" tabindex="-1"><table aria-label=${label}>
    <thead><tr>${columns.map((column) => html`<th scope="col" class=${column.class ?? ""}
        aria-sort=${column.sort && sort === column.sort ? "descending" : undefined}>
      ${column.sort && onSort
        ? html`<button type="button" class="sort ${sort === column.sort ? "on" : ""}" onClick=${() => onSort(column.sort)}>${column.title}<span aria-hidden="true"> ↓</span></button>`
        : column.title}
    </th>`)}</tr></thead>
    <tbody ref=${body} onKeyDown=${move}>${rows.map((row) => html`<tr key=${row.id ?? row.name ?? row.job} class=${to ? "opens" : ""} onClick=${(event) => open(event, row)}>
      ${columns.map((column, index) => html`<td class=${column.class ?? ""} data-label=${column.title}>
        ${index === 0 && to ? html`<a class="row-link" href=${to(row)}>${column.cell(row)}</a>` : column.cell(row)}
      </td>`)}
    </tr>`)}</tbody>
  </table></div>`;
}

/** The columns that lists of evaluations share. */
export const COLUMNS = [
  { title: "Evaluation", cell: (row) => html`<code>${brief(row.id)}</code>`, class: "id" },
  { title: "Outcome", cell: (row) => html`<${Outcome} status=${row.status} cause=${row.cause} rate=${row.success_rate} />` },
  { title: "Tool or case", class: "wide", cell: (row) => html`<span class="what">${row.tool ?? row.case ?? row.kind}</span>${row.error && html`<span class="why">${row.error}</span>`}` },
];

export function Options({ label, value, options, onChange }) {
  return html`<div class="options" role="radiogroup" aria-label=${label}>
    ${options.map(([name, text]) => html`<button type="button" role="radio" aria-checked=${String(value === name)}
      class=${value === name ? "on" : ""} onClick=${() => onChange(name)}>${text}</button>`)}
  </div>`;
}

export const WINDOWS = [["auto", "Auto"], ["24h", "24 h"], ["7d", "7 d"], ["30d", "30 d"], ["all", "All"]];

export function Facts({ of }) {
  const shown = of.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">${shown.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}
