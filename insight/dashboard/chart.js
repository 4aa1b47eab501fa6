// Charts: what uPlot draws, in the page's colours, with its numbers beside the pointer.

import { html, useEffect, useRef } from "./parts.js";
import uPlot from "./vendor/uplot.js";
import { count, duration, percent, time } from "./format.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const faint = (name, share) => `color-mix(in srgb, ${colour(name)} ${share}%, transparent)`;

function axes(format) {
  const common = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return [
    {
      ...common, grid: { show: false }, space: 72, size: 30,
      // Days where the steps are days, else the clock, and the day where it begins.
      values: (_, values, __, ___, step) => values.map((value) => {
        const text = time(value * 1000, false);
        return step >= 86400 || text.endsWith("00:00") ? text.slice(5, 10) : text.slice(11);
      }),
    },
    { ...common, size: 56, values: (_, values) => values.map(format) },
  ];
}

/** Draws into its place, anew when data, size or theme change. */
function Plot({ make, data, label, height = 200, read }) {
  const place = useRef(null);
  const tip = useRef(null);
  useEffect(() => {
    const element = place.current;
    let plot = null;
    const move = (u) => {
      const index = u.cursor.idx;
      const shown = index !== null && index !== undefined && u.cursor.left >= 0;
      tip.current.hidden = !shown;
      if (!shown) return;
      tip.current.textContent = read(index);
      const left = Math.min(Math.max(u.cursor.left + u.over.offsetLeft + 12, 0), element.clientWidth - tip.current.offsetWidth - 4);
      tip.current.style.transform = `translate(${left}px, 4px)`;
    };
    const draw = () => {
      plot?.destroy();
      const own = make();
      plot = new uPlot({
        width: element.clientWidth, height, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"), legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { setScale: false } }, padding: [12, 8, 0, 0],
        ...own, hooks: { ...own.hooks, setCursor: [move] },
      }, data, element);
    };
    draw();
    const sized = new ResizeObserver(() => plot && element.clientWidth !== plot.width && plot.setSize({ width: element.clientWidth, height }));
    sized.observe(element);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    addEventListener("themechange", draw);
    return () => {
      sized.disconnect();
      scheme.removeEventListener("change", draw);
      removeEventListener("themechange", draw);
      plot?.destroy();
    };
  }, [JSON.stringify(data)]);
  return html`<figure class="chart" role="img" aria-label=${label} style=${{ height: `${height}px` }}>
    <div ref=${place}></div><div class="tip" ref=${tip} hidden></div>
  </figure>`;
}

const STACK = ["passed", "subject", "budget", "infrastructure", "harness"];

/** What ended how, in bars over time. */
export function Outcomes({ series }) {
  const { points, bucket_ms, from, to } = series;
  const seconds = points.map((point) => Date.parse(point.at) / 1000);
  // Each bar holds those before it: drawn from the tallest on.
  const sums = STACK.map((_, index) => points.map((point) => STACK.slice(0, index + 1).reduce((sum, name) => sum + point.evaluations[name], 0)));
  const data = [seconds, ...[...sums].reverse()];
  const make = () => ({
    scales: { x: { time: true, range: () => [Date.parse(from) / 1000, Math.max(Date.parse(to), Date.parse(from) + bucket_ms) / 1000] }, y: { range: (_, low, high) => [0, Math.max(1, high) * 1.06] } },
    axes: axes((value) => (Number.isInteger(value) ? count(value) : "")),
    series: [{}, ...[...STACK].reverse().map((name) => ({
      fill: colour(`--${name}`), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.86, 42], align: 1 }),
    }))],
  });
  const read = (index) => {
    const { at, evaluations } = points[index];
    return [`${time(at, false)} UTC`, ...STACK.filter((name) => evaluations[name]).map((name) => `${name} ${count(evaluations[name])}`)].join("   ");
  };
  const total = points.reduce((sum, point) => sum + point.evaluations.total, 0);
  return html`<${Plot} make=${make} data=${data} read=${read} label=${`${count(total)} evaluations by outcome over time, from ${time(from)} to ${time(to)}`} />`;
}

/** A success rate over time with its Wilson band; `marks` are versions and changes. */
export function Rates({ series, marks = [], height = 220 }) {
  const points = series.points.filter((point) => point.rate.rate !== null);
  const middle = (point) => (Date.parse(point.at) + series.bucket_ms / 2) / 1000;
  const data = [points.map(middle), points.map((point) => point.rate.high), points.map((point) => point.rate.low), points.map((point) => point.rate.rate)];
  const make = () => ({
    scales: { x: { time: true, range: () => [Date.parse(series.from) / 1000, Math.max(Date.parse(series.to), Date.parse(series.from) + series.bucket_ms) / 1000] }, y: { range: [0, 1.03] } },
    axes: axes((value) => (value > 1 ? "" : percent(value, 0))),
    series: [{}, { stroke: "transparent", points: { show: false } }, { stroke: "transparent", points: { show: false } },
      { stroke: colour("--accent"), width: 2, points: { show: true, size: 5, fill: colour("--accent") } }],
    bands: [{ series: [1, 2], fill: faint("--accent", 18) }],
    hooks: {
      draw: [(u) => {
        for (const mark of marks) {
          const x = Math.round(u.valToPos(Date.parse(mark.at) / 1000, "x", true));
          if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
          u.ctx.save();
          u.ctx.strokeStyle = colour(mark.tone === "change" ? "--subject" : "--muted");
          u.ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
          u.ctx.lineWidth = devicePixelRatio;
          u.ctx.beginPath();
          u.ctx.moveTo(x, u.bbox.top);
          u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
          u.ctx.stroke();
          u.ctx.restore();
        }
      }],
    },
  });
  const read = (index) => {
    const { at, rate } = points[index];
    return `${time(at, false)} UTC   ${percent(rate.rate)} of ${count(rate.tries)}   (${percent(rate.low)} to ${percent(rate.high)})`;
  };
  if (!points.length) return html`<p class="muted chart-none" style=${{ height: `${height}px` }}>Never put to the test in this window</p>`;
  const last = points.at(-1).rate;
  return html`<${Plot} make=${make} data=${data} read=${read} height=${height}
    label=${`Success rate over time with its 95 % Wilson band; the last of ${points.length} values is ${percent(last.rate)}, between ${percent(last.low)} and ${percent(last.high)}`} />`;
}

const STAGES = [["queued_ms", "queued"], ["claim_ms", "claim"], ["run_ms", "run"], ["effects_ms", "effects"], ["report_ms", "report"]];

/** Where the time of one evaluation went. */
export function Stages({ timings }) {
  const all = STAGES.map(([key, name]) => [name, timings[key] ?? 0]);
  const total = all.reduce((sum, [, value]) => sum + value, 0) || 1;
  return html`<div class="stages">
    <div class="stages-bar" role="img" aria-label=${all.map(([name, value]) => `${name} ${duration(value)}`).join(", ")}>
      ${all.map(([name, value]) => value > 0 ? html`<span class=${`stage-${name}`} style=${{ flexGrow: Math.max(value / total, 0.012) * 1000 }} title=${`${name}: ${duration(value)}`}></span>` : null)}
    </div>
    <ol>${all.map(([name, value]) => html`<li><i class=${`stage-${name}`} aria-hidden="true"></i>${name}<strong>${duration(value)}</strong></li>`)}
      <li><i aria-hidden="true"></i>in all<strong>${duration(total)}</strong></li></ol>
  </div>`;
}
