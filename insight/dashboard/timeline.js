// The time slider: every page as of any moment. Right end: now, and everything moves on by itself.

import { html, useData, useEffect, useRef, useState } from "./parts.js";
import { time } from "./format.js";
import { amend, moment } from "./router.js";

const STEPS = 1000;

/** The slider's place of a moment that the address names: a time, or a transaction's number. */
function place(text, begin, end) {
  const at = /^\d+$/.test(text) ? NaN : Date.parse(text.length === 10 ? `${text}T00:00:00Z` : text);
  return Number.isNaN(at) ? STEPS : Math.round(Math.min(1, Math.max(0, (at - begin) / Math.max(1, end - begin))) * STEPS);
}

export function Timeline() {
  const shown = useData("/v1/timeline", { as_of: "" });
  const [drag, setDrag] = useState(null);
  const wait = useRef(0);
  const { begin, end, activity = [] } = shown.data ?? {};
  const from = Date.parse(begin);
  const to = Date.parse(end);
  const now = moment();
  const at = drag ?? (now && begin ? place(now, from, to) : STEPS);
  const instant = (step) => new Date(from + (step / STEPS) * (to - from)).toISOString();
  const choose = (step) => {
    setDrag(step);
    clearTimeout(wait.current);
    wait.current = setTimeout(() => {
      setDrag(null);
      amend({ as_of: step >= STEPS ? undefined : instant(step), cursor: undefined });
    }, 120);
  };
  useEffect(() => {
    const step = (event) => begin && choose(Math.min(STEPS, Math.max(0, at + event.detail * (STEPS / 100))));
    addEventListener("timestep", step);
    return () => removeEventListener("timestep", step);
  });
  const label = drag !== null && drag < STEPS ? instant(drag) : now && (/^\d+$/.test(now) ? `transaction ${now}` : now);
  const most = Math.max(1, ...activity);
  const text = label ? (label.startsWith("transaction") ? label : `${time(label)} UTC`) : "now";
  return html`<div class="timeline ${now ? "past" : ""}" role="group" aria-label="As of">
    <div class="timeline-words"><span class="muted">As of</span> <strong data-testid="moment">${text}</strong></div>
    <div class="timeline-track">
      <svg viewBox=${`0 0 ${activity.length || 1} 24`} preserveAspectRatio="none" aria-hidden="true">
        ${activity.map((value, index) => value ? html`<rect x=${index + 0.12} width="0.76" y=${24 - Math.max(2, (value / most) * 24)}
          height=${Math.max(2, (value / most) * 24)} class=${index / activity.length < at / STEPS ? "on" : ""} />` : null)}
      </svg>
      <input type="range" min="0" max=${STEPS} value=${at} disabled=${!begin || to <= from} aria-label="Moment"
        aria-valuetext=${text} onInput=${(event) => choose(Number(event.target.value))} />
    </div>
    <button type="button" class="button small" disabled=${!now} onClick=${() => amend({ as_of: undefined, cursor: undefined })}>Now</button>
  </div>`;
}
