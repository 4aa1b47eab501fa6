// How soon pages are there, and how soon they show what was recorded: `make bench-pages` calls this, before a stage of as
// many evaluations as the first argument says. Every page is opened anew so many times (the second argument), each time
// in a browser context that has nothing kept. Prints a table in the form of bench/results.
import { chromium } from "@playwright/test";
import { cpus, loadavg } from "node:os";
import { begin } from "./stage.mjs";

const [evaluations = 100_000, rounds = 15] = process.argv.slice(2).map(Number);
const EVENTS = 20;

/** Notes in the page when its content is there, and when it hears of what was recorded. */
function notes() {
  const look = () => {
    const there = document.querySelector("main h1") && !document.querySelector(".skeleton, .stale");
    if (there) window.there = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  window.heard = {};
  const Source = window.EventSource;
  window.EventSource = class extends Source {
    constructor(...all) {
      super(...all);
      this.addEventListener("recorded", (event) => {
        for (const { id } of JSON.parse(event.data).evaluations) window.heard[id] ??= Date.now();
      });
    }
  };
}

/** What a series of times comes to, each a value that was measured. */
function summary(times) {
  const sorted = [...times].sort((one, other) => one - other);
  const rank = (percent) => sorted[Math.max(1, Math.ceil((sorted.length * percent) / 100)) - 1];
  return [sorted[0], rank(50), rank(90), rank(99), sorted.at(-1), sorted.length];
}

const stage = await begin({ STAGE_EVALUATIONS: String(evaluations), STAGE_HEAP: process.env.STAGE_HEAP ?? "6g" });
const headers = { authorization: `Bearer ${stage.token}` };
const ask = async (path) => (await fetch(stage.url + path, { headers })).json();
while (!((await ask("/v1/evaluations?limit=1&count=true")).count >= evaluations)) await new Promise((done) => setTimeout(done, 500));

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const load = loadavg();

async function context() {
  const fresh = await browser.newContext({ viewport: { width: 1360, height: 860 }, reducedMotion: "reduce" });
  await fresh.addInitScript(notes);
  await fresh.addCookies([{ name: "evalfleet-token", value: stage.token, url: stage.url }]);
  return fresh;
}

/** Opens a page; gives when it first painted and when its content was there, and how much of it jumped. */
async function opened(page, path) {
  await page.goto(stage.url + path, { waitUntil: "commit" });
  await page.waitForFunction(() => window.there && performance.getEntriesByName("first-contentful-paint").length, undefined, { polling: 50, timeout: 120_000 });
  return page.evaluate(() => [performance.getEntriesByName("first-contentful-paint")[0].startTime, window.there]);
}

const PAGES = [
  ["overview", "/"], ["evaluations", "/evaluations"], ["evaluations, of a tool and failed", "/evaluations?tool=edit_file&status=failed"],
  ["one evaluation", `/evaluations/${stage.jobs.rich}`], ["runs", "/runs"], ["a run", `/runs/${stage.jobs.suite}?kind=batch`], ["a labelled run", "/runs/nightly-new?kind=run"],
  ["tools", "/tools"], ["a tool", "/tools/edit_file"], ["models", "/models"], ["a model", "/models/gemini-2.5-pro"],
  ["compare, two runs", "/compare?base=run:nightly-old&head=run:nightly-new"], ["insights", "/insights"], ["alerts", "/alerts"], ["an alert", `/alerts/${stage.jobs.alert}`],
  ["workers", "/workers"], ["dead letters", "/dead-letters"], ["a dead letter", `/dead-letters/${stage.jobs.dead}`],
];
const paints = PAGES.map(() => []);
const contents = PAGES.map(() => []);
for (let round = -1; round < rounds; round += 1) {
  for (const [index, [, path]] of PAGES.entries()) {
    const own = await context();
    const [paint, content] = await opened(await own.newPage(), path);
    await own.close();
    // The first round warms the API, and does not count.
    if (round < 0) continue;
    paints[index].push(paint);
    contents[index].push(content);
  }
}

const own = await context();
const page = await own.newPage();
await opened(page, "/evaluations");
await page.locator(".live.live").waitFor();
const events = { store: [], committed: [], heard: [] };
for (let nth = 0; nth < EVENTS; nth += 1) {
  const id = `019ab0c4-3333-7000-8000-${String(nth).padStart(12, "0")}`;
  // What was asked is answered, and nobody asks again just now.
  await page.waitForTimeout(700);
  const seen = page.evaluate((end) => new Promise((done) => {
    const look = () => (document.querySelector("main tbody tr")?.textContent.includes(end) ? done(Date.now()) : requestAnimationFrame(look));
    look();
  }), id.slice(-6));
  const { begun, committed } = await stage.record(id);
  const visible = await seen;
  const heard = await page.evaluate((which) => window.heard[which], id);
  events.store.push(visible - begun);
  events.committed.push(visible - committed);
  events.heard.push(visible - heard);
}
const agent = await browser.version();
await browser.close();
await stage.end();

const rows = [
  ...PAGES.map(([name], index) => [`${name}: first paint`, summary(paints[index])]),
  ...PAGES.map(([name], index) => [`${name}: its content`, summary(contents[index])]),
  ["a result handed to the store, until it is visible", summary(events.store)],
  ["a result committed, until it is visible", summary(events.committed)],
  ["its event in the page, until it is visible", summary(events.heard)],
];
const median = (series) => summary(series)[1];
const wide = Math.max(...rows.map(([name]) => name.length));
console.log(`pages: the dashboard's pages in a headless browser with nothing kept, ${new Date().toISOString().slice(0, 19).replace("T", " ")} UTC`);
console.log(`  ${cpus().length} cores, ${cpus()[0].model}; load average ${load.map((one) => one.toFixed(2)).join(" ")}`);
console.log(`  evalfleet ${stage.version}, ${stage.release ? "release" : "dev"} build`);
console.log(`  browser: Chromium ${agent}, headless`);
console.log(`  evaluations: ${evaluations}`);
console.log("  store: Datomic's peer, in memory, behind the gateway, on loopback\n");
console.log("milliseconds".padEnd(wide) + ["min", "median", "p90", "p99", "max", "n"].map((head) => head.padStart(9)).join(""));
for (const [name, [min, p50, p90, p99, max, n]] of rows) {
  console.log(name.padEnd(wide) + [min, p50, p90, p99, max].map((number) => number.toFixed(1).padStart(9)).join("") + String(n).padStart(9));
}
console.log(`\nfirst paint, the slowest page's median: ${Math.max(...paints.map(median)).toFixed(1)} ms`);
console.log(`content, the slowest page's median: ${Math.max(...contents.map(median)).toFixed(1)} ms`);
console.log(`an event visible, median: ${median(events.committed).toFixed(1)} ms`);
console.log(`an event visible, the longest: ${Math.max(...events.committed).toFixed(1)} ms`);
