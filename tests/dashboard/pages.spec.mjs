// What people see and do, page by page.
import AxeBuilder from "@axe-core/playwright";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "./stage.mjs";

const shots = process.env.SHOTS && path.resolve(process.env.SHOTS);

/** A picture for the README, where they are asked for. */
async function shoot(page, name) {
  if (!shots) return;
  await mkdir(shots, { recursive: true });
  await page.mouse.move(0, 0);
  await page.waitForTimeout(400);
  await page.screenshot({ path: path.join(shots, `${name}.png`) });
}

const open = async (page, stage, to = "/") => {
  await page.goto(stage.url + to);
  await expect(page.locator("main h1").first()).toBeVisible();
  await expect(page.locator(".skeleton")).toHaveCount(0);
};

const rows = (page, label) => page.getByRole("table", { name: label }).locator("tbody tr");

test("who has no token is asked for one, and a link with it opens", async ({ browser, stage }) => {
  const page = await (await browser.newContext()).newPage();
  await page.goto(stage.url);
  await expect(page.getByText("Log in first")).toBeVisible();
  await page.getByRole("link", { name: "Log in" }).click();
  await page.getByLabel("Token").fill("not the token");
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("alert")).toContainText("not the token");
  await page.getByLabel("Token").fill(stage.token);
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("heading", { name: "Overview" })).toBeVisible();
  await page.context().clearCookies();
  await page.goto(`${stage.url}/#token=${stage.token}`);
  await expect(page.getByText("Newest evaluations")).toBeVisible();
  await expect(page).not.toHaveURL(/token/);
  await expect.poll(async () => (await page.context().cookies()).length).toBe(1);
  const [cookie] = await page.context().cookies();
  expect([cookie.httpOnly, cookie.sameSite]).toEqual([true, "Strict"]);
});

test("the overview shows how things go", async ({ page, stage }) => {
  await open(page, stage);
  await expect(page.locator(".tile", { hasText: "Success rate" })).toContainText("%");
  await expect(page.locator(".tile", { hasText: "Waiting jobs" })).toContainText("the broker does not answer");
  await expect(page.locator("figure.chart canvas")).toHaveCount(2);
  await expect(rows(page, "Newest evaluations")).toHaveCount(12);
  await expect(page.locator(".insight").first()).toBeVisible();
  await expect(page.locator(".live")).toHaveText("Live");
  await shoot(page, "overview");
});

test("the overview says how old the oldest waiting job is at most", async ({ page, stage }) => {
  // The stage has no broker: what one would say is put in.
  await page.route("**/v1/overview*", async (route) => {
    const answer = await route.fetch();
    const lane = (name, messages, oldest_at_most_ms) => ({ name: `eval.jobs.${name}`, messages, consumers: 1, oldest_at_most_ms });
    await route.fulfill({ response: answer, json: { ...(await answer.json()), queues: [lane("default", 3, 12_000), lane("gpu", 1, 61_000), lane("urgent", 0, null)] } });
  });
  await open(page, stage);
  await expect(page.locator(".tile", { hasText: "Waiting jobs" })).toContainText("4");
  await expect(page.locator(".tile", { hasText: "Oldest job" })).toContainText("≤ 1 min 1 s");
});

test("what is recorded appears by itself, soon", async ({ page, stage }) => {
  await open(page, stage, "/evaluations");
  await expect(page.locator(".live")).toHaveText("Live");
  const id = "019ab0c4-1111-7000-8000-000000000001";
  await stage.record(id);
  const begun = Date.now();
  await expect(rows(page, "Evaluations").first()).toContainText(id.slice(-6));
  console.log(`    seen ${Date.now() - begun} ms after it was recorded`);
  expect(Date.now() - begun).toBeLessThan(5000);
});

test("evaluations are filtered, sorted, searched and paged, and each view is a link", async ({ page, stage }) => {
  await open(page, stage, "/evaluations");
  const status = page.getByRole("status").filter({ hasText: "evaluations" });
  const all = await status.textContent();
  await page.getByRole("combobox", { name: "cause" }).selectOption("infrastructure");
  await expect(page).toHaveURL(/cause=infrastructure/);
  await expect(status).not.toHaveText(all);
  await expect(rows(page, "Evaluations").locator(".badge.infrastructure")).toHaveCount(await rows(page, "Evaluations").count());
  await page.goto(page.url());
  await expect(page.getByRole("combobox", { name: "cause" })).toHaveValue("infrastructure");
  await page.getByRole("combobox", { name: "cause" }).selectOption("");
  await page.getByRole("searchbox", { name: "Search" }).fill("anchor not found");
  await expect(page).toHaveURL(/q=anchor/);
  await expect(rows(page, "Evaluations").first()).toContainText("anchor not found");
  await page.getByRole("searchbox", { name: "Search" }).fill("");
  await expect(page).not.toHaveURL(/q=/);
  await page.getByRole("button", { name: "Run time" }).click();
  await expect(page).toHaveURL(/sort=slowest/);
  await expect(rows(page, "Evaluations").first()).toContainText("run_tests");
  await open(page, stage, "/evaluations");
  const first = await rows(page, "Evaluations").first().textContent();
  await page.getByRole("link", { name: "Next page" }).click();
  await expect(page).toHaveURL(/cursor=/);
  await expect(rows(page, "Evaluations").first()).not.toHaveText(first);
  await page.goBack();
  await expect(rows(page, "Evaluations").first()).toHaveText(first);
  await page.goto(`${stage.url}/evaluations?tool=unheard-of`);
  await expect(page.getByText("No evaluation fits")).toBeVisible();
});

test("one evaluation is shown whole", async ({ page, stage }) => {
  await open(page, stage, `/evaluations/${stage.jobs.rich}`);
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("run_tests");
  for (const title of ["Where the time went", "Calls", "Output", "Effects", "Network", "Metrics", "Reset", "Provenance"]) {
    await expect(page.getByRole("region", { name: title, exact: true })).toBeVisible();
  }
  const tree = page.getByRole("tree", { name: "Effects" });
  await expect(tree).toContainText("report.xml");
  await expect(tree.locator(".deleted")).toContainText("hostname");
  await expect(tree.locator(".deleted")).toContainText("unexpected");
  await expect(page.getByRole("region", { name: "Reset" })).toContainText("256 with the template");
  await expect(page.getByRole("region", { name: "Network" })).toContainText("example.com:443");
  await page.getByRole("tab", { name: "Standard error" }).click();
  await expect(page.getByRole("tabpanel")).toContainText("Nothing.");
  await page.evaluate(() => scrollTo(0, 0));
  await shoot(page, "evaluation");
  await tree.getByRole("button", { name: "What changed in /workspace/src/lib.rs" }).click();
  const diff = page.getByRole("group", { name: "What changed in /workspace/src/lib.rs" });
  await expect(diff.locator("tr.removed .line-text").first()).toHaveText("/// Adds two numbers.");
  await expect(diff.locator("tr.added")).toHaveCount(7);
  await expect(diff.locator(".diff-head")).toContainText("+7");
  // What is no text is named as such, and what is the image's own as well.
  await expect(tree.locator(".effect", { hasText: "index.bin" })).toContainText("binary, 51 KiB");
  await expect(tree.locator(".effect", { hasText: "hostname" })).toContainText("the image's own");
  await shoot(page, "diff");
  await tree.getByRole("button", { name: "What changed in /workspace/build/report.xml" }).click();
  await expect(page.getByRole("group", { name: "What changed in /workspace/build/report.xml" }).locator("tr.added")).toHaveCount(5);
  // The stage's jobs were not kept.
  await expect(page.getByRole("button", { name: "Run again" })).toBeDisabled();
  await open(page, stage, `/evaluations/${stage.jobs.failed}`);
  await expect(page.getByRole("region", { name: "Evidence" })).toContainText("exit status");
});

test("an imported batch is shown with its parts", async ({ page, stage }) => {
  await open(page, stage, `/evaluations/${stage.jobs.batches[1]}`);
  await expect(page.getByRole("region", { name: "Functions called" })).toBeVisible();
  await expect(rows(page, "Parts (12)")).toHaveCount(12);
  await rows(page, "Parts (12)").first().getByRole("link").first().click();
  await expect(page).toHaveURL(/%2F/);
  await expect(page.getByRole("region", { name: "Facts" })).toBeVisible();
});

test("what is not recorded yet says so and appears when it is", async ({ page, stage }) => {
  const id = "019ab0c4-2222-7000-8000-000000000002";
  await page.goto(`${stage.url}/evaluations/${id}`);
  await expect(page.getByText("Not recorded yet")).toBeVisible();
  await stage.record(id);
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("word_count");
});

test("runs are listed, and a suite's run is shown with its verdicts", async ({ page, stage }) => {
  await open(page, stage, "/runs");
  await expect(rows(page, "Runs").filter({ hasText: "nightly-new" })).toHaveCount(1);
  await page.getByRole("radio", { name: "Batches" }).click();
  await expect(page).toHaveURL(/kind=batch/);
  await page.getByRole("searchbox", { name: "Search runs" }).fill("basics");
  await expect(rows(page, "Runs")).toHaveCount(1);
  // Of eight questions four were answered; one fell to the service, so seven were put to the test.
  await expect(rows(page, "Runs")).toContainText("57.1 %");
  await expect(rows(page, "Runs")).toContainText("50.0 %");
  await page.getByRole("link", { name: stage.jobs.suite }).click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText(stage.jobs.suite);
  await expect(rows(page, "Questions")).toHaveCount(8);
  const row = (text) => rows(page, "Questions").filter({ hasText: text });
  await expect(row("How long is todo.md?")).toContainText("wrong tools");
  await expect(row("How long is todo.md?").locator(".tool.missing")).toContainText("word_count");
  await expect(row("How long is todo.md?").locator(".tool.extra")).toContainText("read_file");
  await expect(row("in the folder drafts")).toContainText("wrong arguments");
  await expect(row("leave it as it is")).toContainText("wrong effects");
  await expect(row("Which files are there?").locator(".badge.infrastructure")).toBeVisible();
  await expect(row("Read notes.md, and count").locator(".dot.passed")).toHaveCount(2);
  await expect(rows(page, "Functions").filter({ hasText: "word_count" })).toContainText("2 / 2");
  await expect(rows(page, "Functions").filter({ hasText: "read_file" })).toContainText("2 / 5");
  await shoot(page, "run");
  await page.getByRole("radio", { name: "Wrong arguments 1" }).click();
  await expect(rows(page, "Questions")).toHaveCount(1);
  await page.getByRole("radio", { name: /^All/ }).click();
  await row("Read notes.md, and count").locator(".dot").first().click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("read_file");
  await page.getByRole("link", { name: stage.jobs.suite }).first().click();
  await expect(rows(page, "Questions")).toHaveCount(8);
  await open(page, stage, "/runs/nightly-new?kind=run");
  await expect(page.getByRole("table", { name: "Cases by outcomes" })).toBeVisible();
  await expect(rows(page, "What did not pass")).not.toHaveCount(0);
});

test("tools are told with their rates, versions and cases", async ({ page, stage }) => {
  await open(page, stage, "/tools");
  await expect(rows(page, "Tools")).not.toHaveCount(0);
  await expect(rows(page, "Tools").first()).toContainText("%");
  await page.getByRole("searchbox").fill("edit");
  await expect(rows(page, "Tools")).toHaveCount(1);
  await page.getByRole("link", { name: "edit_file" }).click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("edit_file");
  await expect(rows(page, "Versions")).toHaveCount(3);
  await expect(rows(page, "Versions").first()).toContainText("quarantine");
  await expect(page.getByRole("region", { name: "Changes" })).toContainText("duration");
  await expect(page.getByRole("table", { name: "Cases by outcomes" }).locator("tr")).toHaveCount(6);
  await page.getByRole("radio", { name: "30 d" }).click();
  await expect(page).toHaveURL(/window=30d/);
  await shoot(page, "tool");
});

test("models are told likewise", async ({ page, stage }) => {
  await open(page, stage, "/models");
  await page.getByRole("link", { name: "gemini-2.5-pro" }).click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("gemini-2.5-pro");
  await expect(page.getByRole("table", { name: "Cases by outcomes" })).toBeVisible();
});

test("two runs are compared, and a regression is called one", async ({ page, stage }) => {
  await open(page, stage, "/compare");
  await page.getByLabel("Base", { exact: true }).fill("run:nightly-old,tool:edit_file");
  await page.getByLabel("Head", { exact: true }).fill("run:nightly-new,tool:edit_file");
  await page.getByRole("button", { name: "Compare" }).click();
  await expect(page.locator(".verdict")).toContainText("Regression");
  await expect(page.locator(".verdict")).toContainText("times as long");
  await expect(rows(page, "Cases")).toHaveCount(6);
  await shoot(page, "compare");
  await page.goto(`${stage.url}/compare?base=unheard-of&head=run:nightly-new`);
  await expect(page.getByRole("alert")).toContainText("unheard-of");
});

test("one thing is compared at two moments", async ({ page, stage }) => {
  await open(page, stage, "/compare");
  await page.getByRole("radio", { name: "Two moments" }).click();
  await page.getByLabel("Of what").fill("tool:edit_file");
  // Before and after the image that makes it fail in one case of three.
  const day = (ago) => new Date(Date.now() - ago * 24 * 3600_000).toISOString().slice(0, 19);
  await page.getByLabel("As of (UTC)", { exact: true }).fill(day(12));
  await page.getByRole("button", { name: "Compare" }).click();
  await expect(page).toHaveURL(/base_as_of=.*Z/);
  await expect(page.locator(".card", { hasText: "Then" }).first()).toContainText("as of");
  await expect(page.locator(".verdict")).toContainText("Regression");
  await page.goto(page.url());
  await expect(page.getByRole("radio", { name: "Two moments" })).toHaveAttribute("aria-checked", "true");
  await expect(page.getByLabel("Of what")).toHaveValue("tool:edit_file");
  await expect(page.getByLabel("As of (UTC)", { exact: true })).not.toHaveValue("");
});

test("insights name the worker, the tool and the flaky case, with their numbers", async ({ page, stage }) => {
  await open(page, stage, "/insights");
  await expect(page.locator(".insight", { hasText: "worker worker-3 fails by itself" })).toBeVisible();
  await expect(page.locator(".insight", { hasText: "edit_file became slower" })).toBeVisible();
  await expect(page.locator(".insight", { hasText: "tools/run_tests-4" }).first()).toBeVisible();
  const worker = page.locator(".insight", { hasText: "worker-3" }).first();
  await worker.getByRole("button", { name: "Numbers" }).click();
  await expect(worker.locator("pre")).toContainText("odds_ratio");
  await shoot(page, "insights");
  await worker.getByRole("link", { name: "The evaluations" }).click();
  await expect(page).toHaveURL(/worker=worker-3/);
});

test("workers and dead letters", async ({ page, stage }) => {
  await open(page, stage, "/workers");
  await expect(rows(page, "Workers")).toHaveCount(3);
  await expect(page.getByText("The broker does not answer")).toBeVisible();
  await open(page, stage, "/dead-letters");
  await expect(rows(page, "Dead letters").first()).toContainText("QEMU: was killed");
  const replayed = rows(page, "Dead letters").filter({ hasText: stage.jobs.dead.slice(-6) }).first();
  await expect(replayed).not.toContainText("not yet");
  // The stage has no broker: what cannot be done is said, and nothing else happens.
  await page.getByRole("button", { name: /^Replay all/ }).click();
  await expect(page.getByRole("alert")).toContainText("RabbitMQ");
  await page.getByRole("button", { name: "Back" }).click();
  await replayed.locator("a.row-link").click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("Dead letter");
  await expect(page.locator(".facts").first()).toContainText("attempts spent");
  await expect(page.getByRole("region", { name: "Tries (3)" })).toContainText("was killed");
  await shoot(page, "letter");
  await expect(rows(page, "Jobs that ask the same")).toHaveCount(2);
  await page.locator(".facts").first().getByRole("link").filter({ hasText: stage.jobs.dead.slice(-6) }).click();
  await expect(page.getByRole("region", { name: "Dead letter" })).toContainText("attempts spent");
});

test("a worker is drained at the second click, shows it, and is told to resume", async ({ page, stage }) => {
  // The stage has no broker: what the API says of drained workers is said here.
  const told = [];
  let drained = null;
  await page.route("**/v1/workers*", async (route) => {
    const answer = await route.fetch();
    const data = await answer.json();
    data.workers[0] = { ...data.workers[0], name: "worker-1", now: { supply: { able: true, spare: 1, waits: 0, claims: 3, drained } } };
    await route.fulfill({ response: answer, json: data });
  });
  await page.route("**/v1/workers/worker-1/*", async (route) => {
    told.push([route.request().url().split("/").pop(), route.request().postDataJSON()?.reason]);
    drained = drained ? null : "drained on the dashboard";
    await route.fulfill({ status: 202 });
  });
  await open(page, stage, "/workers");
  await page.getByRole("button", { name: "Drain worker-1" }).first().click();
  expect(told).toEqual([]);
  await page.getByRole("button", { name: "Cancel worker-1" }).click();
  await page.getByRole("button", { name: "Drain worker-1" }).first().click();
  await page.getByRole("button", { name: "Take no more jobs worker-1" }).click();
  await expect(page.getByText("It is told.")).toBeVisible();
  await open(page, stage, "/workers");
  await expect(page.locator(".badge", { hasText: "drained" })).toBeVisible();
  await page.getByRole("button", { name: "Resume worker-1" }).click();
  await expect(page.getByText("It is told.")).toBeVisible();
  expect(told).toEqual([["drain", "drained on the dashboard"], ["resume", undefined]]);
});

test("a bulk replay says what it would do, how far it is, and what came of it", async ({ page, stage }) => {
  // The stage has no broker: what the API would say is said here, and the stream of events is ours.
  await page.addInitScript(() => {
    const sources = [];
    window.EventSource = class extends EventTarget {
      constructor() {
        super();
        sources.push(this);
        setTimeout(() => this.onopen?.());
      }
      close() {}
    };
    window.happen = (kind, data) => sources.forEach((source) => source.dispatchEvent(new MessageEvent(kind, { data: JSON.stringify(data) })));
  });
  const letter = (nth) => ({ id: `019ab0c4-4444-7000-8000-${String(nth).padStart(12, "0")}`, job: null, reason: "attempts_spent", kind: "command", tool: "make", died: "2026-01-31T06:00:00Z", attempts: 3, error: "no room", replayed_by: null, replay_outcome: null });
  const all = Array.from({ length: 150 }, (_, nth) => letter(nth));
  await page.route("**/v1/dead-letters?*", (route) => route.fulfill({ json: { dead_letters: all, count: 150, open: 150, reasons: { attempts_spent: 150 }, basis_t: 1 } }));
  const orders = [];
  let go;
  await page.route("**/v1/dead-letters/replay", async (route) => {
    const order = route.request().postDataJSON();
    if (!order.dry_run) {
      orders.push(order);
      await new Promise((resolve) => (go = resolve));
    }
    const done = (id, nth) => (order.dry_run && nth === 0 ? { id, job: null, refused: "its message is no job" } : { id, job: id.replace("4444", "5555"), refused: null });
    await route.fulfill({ json: { letters: order.ids.map(done) } });
  });
  await open(page, stage, "/dead-letters");
  await page.getByRole("button", { name: "Replay all of this list" }).click();
  // 150 in two requests, of each of which the first letter is refused.
  await expect(page.getByText("2 letters refused: its message is no job")).toBeVisible();
  await page.getByRole("button", { name: "Replay 148 letters" }).click();
  const progress = page.getByRole("progressbar", { name: "How far the replay is" });
  await expect(progress).toHaveAttribute("max", "148");
  await expect.poll(() => orders.length).toBe(1);
  await page.evaluate((order) => window.happen("handled", { order, done: 40, refused: 0, of: 100 }), orders[0].order);
  await expect(page.getByText("40 of 148 replayed")).toBeVisible();
  await page.evaluate(() => window.happen("handled", { order: "of somebody else", done: 90, refused: 0, of: 100 }));
  await expect(page.getByText("40 of 148 replayed")).toBeVisible();
  go();
  await expect.poll(() => orders.length).toBe(2);
  await expect(page.getByText("100 of 148 replayed")).toBeVisible();
  go();
  await expect(page.getByText("148 letters replayed")).toBeVisible();
  await expect(page.getByText("0 of 148 results are there")).toBeVisible();
  all.slice(1, 4).forEach((one, nth) => Object.assign(one, { replayed_by: one.id.replace("4444", "5555"), replay_outcome: nth ? "passed" : "subject" }));
  await page.evaluate(() => window.happen("recorded", { basis_t: 2, count: 3, evaluations: [] }));
  await expect(page.getByText("3 of 148 results are there: 1 subject, 2 passed")).toBeVisible();
});

test("who may only look is offered nothing else", async ({ browser, stage }) => {
  const context = await browser.newContext();
  await context.request.post(`${stage.url}/v1/session`, { data: { token: stage.read_token } });
  const page = await context.newPage();
  await open(page, stage, "/dead-letters");
  await expect(rows(page, "Dead letters").first()).toBeVisible();
  await open(page, stage, `/alerts/${stage.jobs.alert}`);
  await expect(page.getByText("Nobody has judged it yet.")).toBeVisible();
  for (const to of ["/dead-letters", `/dead-letters/${stage.jobs.dead}`, `/alerts/${stage.jobs.alert}`, `/evaluations/${stage.jobs.rich}`]) {
    await open(page, stage, to);
    await expect(page.getByRole("button", { name: /^(Replay|Run again|Right|Wrong)/ })).toHaveCount(0);
  }
  const refused = await context.request.post(`${stage.url}/v1/dead-letters/replay`, { data: { ids: [stage.jobs.dead] } });
  expect(refused.status()).toBe(403);
  await context.close();
});

test("an alert is listed, shown with what confirmed it, and judged with a reason only", async ({ page, stage }) => {
  await open(page, stage, "/alerts");
  await expect(rows(page, "Alerts")).toHaveCount(1);
  await expect(rows(page, "Alerts").first()).toContainText("tool=edit_file");
  await page.getByRole("radio", { name: "Dismissed" }).click();
  await expect(page).toHaveURL(/state=dismissed/);
  await expect(page.getByText("None is in this state.")).toBeVisible();
  await open(page, stage, `/alerts/${stage.jobs.alert}`);
  await expect(rows(page, "Run again")).toHaveCount(3);
  await expect(page.getByText("New when it began")).toBeVisible();
  await shoot(page, "alert");
  await expect(page.getByRole("button", { name: "Wrong" })).toBeDisabled();
  await page.getByLabel("Reason").fill("the fixture was changed");
  // The stage has no broker.
  await page.getByRole("button", { name: "Wrong" }).click();
  await expect(page.getByRole("alert")).toContainText("RabbitMQ");
});

test("a healing is listed, shown with its evidence, and undone with a reason only", async ({ page, stage }) => {
  await open(page, stage, "/healings");
  await expect(rows(page, "Healings")).toHaveCount(1);
  await expect(rows(page, "Healings").first()).toContainText("drain worker=worker-3");
  await page.getByRole("radio", { name: "Proposed" }).click();
  await expect(page).toHaveURL(/state=proposed/);
  await expect(page.getByText("None is in this state.")).toBeVisible();
  await open(page, stage, `/healings/${stage.jobs.healing}`);
  await expect(page.getByText("9 of 9: its tries that ended in a fault of ours")).toBeVisible();
  await expect(page.getByRole("button", { name: "Apply" })).toHaveCount(0);
  await expect(page.getByRole("button", { name: "Undo" })).toBeDisabled();
  await page.getByLabel("Reason").fill("the disk was changed");
  // The stage has no broker.
  await page.getByRole("button", { name: "Undo" }).click();
  await expect(page.getByRole("alert")).toContainText("RabbitMQ");
});

test("every page is shown as of any moment", async ({ page, stage }) => {
  await open(page, stage, "/evaluations");
  const count = page.getByRole("status").filter({ hasText: /evaluations?$/ });
  await page.goto(`${stage.url}/evaluations?as_of=2025-07-31T06:00:00Z`);
  await expect(count).toHaveText("2 evaluations");
  await expect(page.locator(".live")).toHaveText("In the past");
  for (const [name, heading] of [["Overview", "Overview"], ["Tools", "Tools"], ["Models", "Models"], ["Insights", "Insights"], ["Workers", "Workers"], ["Dead letters", "Dead letters"]]) {
    await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name }).click();
    await expect(page.getByRole("heading", { level: 1 })).toHaveText(heading);
    await expect(page).toHaveURL(/as_of=2025-07-31/);
  }
  await page.goto(`${stage.url}/evaluations/${stage.jobs.rich}?as_of=2025-08-01`);
  await expect(page.getByText("Not known at that moment")).toBeVisible();
  // By hand: the slider's left end is the first evaluation.
  await open(page, stage, "/evaluations");
  const slider = page.getByRole("slider", { name: "Moment" });
  await slider.focus();
  await page.keyboard.press("Home");
  await expect(page).toHaveURL(/as_of=2025-07-31/);
  await expect(count).toHaveText("1 evaluation");
  await page.getByRole("button", { name: "Now", exact: true }).click();
  await expect(page).not.toHaveURL(/as_of/);
});

test("the keyboard is enough", async ({ page, stage }) => {
  await open(page, stage);
  await page.keyboard.press("g");
  await page.keyboard.press("e");
  await expect(page).toHaveURL(/\/evaluations$/);
  await expect(rows(page, "Evaluations").first()).toBeVisible();
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  const link = page.locator("a.row-link:focus");
  await expect(link).toHaveCount(1);
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\/evaluations\/019ab0c4/);
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toBeHidden();
  await page.keyboard.press("g");
  await page.keyboard.press("e");
  await expect(rows(page, "Evaluations").first()).toBeVisible();
  await page.keyboard.press("/");
  await expect(page.getByRole("searchbox")).toBeFocused();
  // Past the navigation in one step, and never into nowhere: whatever has the focus is seen to have it.
  await open(page, stage, `/evaluations/${stage.jobs.rich}`);
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "To the content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("main")).toBeFocused();
  const seen = new Set();
  for (let step = 0; step < 40; step += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      const { width, height } = element.getBoundingClientRect();
      const { outlineStyle } = getComputedStyle(element);
      return { name: element.tagName + element.textContent.slice(0, 40), shown: element === document.body || (width > 0 && height > 0 && outlineStyle !== "none"), body: element === document.body };
    });
    if (at.body) break;
    expect(at.shown, `the focus is seen on ${at.name}`).toBe(true);
    seen.add(at.name);
  }
  expect(seen.size).toBeGreaterThan(10);
  const diff = page.getByRole("button", { name: "What changed in /workspace/src/lib.rs" });
  await diff.focus();
  await page.keyboard.press("Enter");
  await expect(diff).toHaveAttribute("aria-expanded", "true");
});

test("an API that is gone is an error that says what helps", async ({ page, stage }) => {
  await page.route("**/v1/tools*", (route) => route.fulfill({ status: 503, contentType: "application/problem+json", body: JSON.stringify({ title: "store unavailable", detail: "the gateway does not answer", status: 503 }) }));
  await page.goto(`${stage.url}/tools`);
  await expect(page.getByRole("alert")).toContainText("the gateway does not answer");
});

const PAGES = ["/", "/evaluations", "/runs", "/runs/nightly-new?kind=run", "/compare", "/models/gemini-2.5-pro", "/login", "/tools", "/tools/edit_file", "/models", "/compare?base=run:nightly-old&head=run:nightly-new", "/insights", "/alerts", "/healings", "/workers", "/dead-letters"];

/** Every page, and what is on it where that differs. */
const all = ({ jobs }) => [...PAGES, `/alerts/${jobs.alert}`, `/healings/${jobs.healing}`, `/evaluations/${jobs.rich}`, `/evaluations/${jobs.failed}`, `/evaluations/${jobs.batches[0]}`,
  `/runs/${jobs.suite}?kind=batch`, `/dead-letters/${jobs.dead}`, "/evaluations?tool=unheard-of", "/tools?as_of=2025-08-01", "/unheard-of"];

for (const scheme of ["light", "dark"]) {
  test(`no page fails WCAG AA in ${scheme}`, async ({ page, stage }) => {
    test.setTimeout(600_000);
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    for (const to of all(stage)) {
      await open(page, stage, to);
      await expect(page.locator(".stale")).toHaveCount(0);
      // What is folded away has to be readable, too.
      for (const fold of await page.locator("button.chip[aria-label^='What changed'], summary").all()) await fold.click();
      const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]).analyze();
      expect(violations.map(({ id, nodes }) => `${to}: ${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`)).toEqual([]);
    }
    if (scheme === "dark") {
      await open(page, stage);
      await shoot(page, "overview-dark");
    }
  });
}

test("narrow screens: nothing is wider than the screen", async ({ page, stage }) => {
  test.setTimeout(300_000);
  await page.setViewportSize({ width: 390, height: 844 });
  for (const to of all(stage)) {
    await open(page, stage, to);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(wide, to).toBeLessThanOrEqual(0);
  }
  await open(page, stage);
  await shoot(page, "narrow");
});

test("pages are there at once, and nothing on them jumps", async ({ page, stage }) => {
  test.setTimeout(300_000);
  await page.addInitScript(() => {
    window.shifts = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => (window.shifts += entry.hadRecentInput ? 0 : entry.value))).observe({ type: "layout-shift", buffered: true });
  });
  const paints = [];
  for (const to of all(stage)) {
    await open(page, stage, to);
    await page.waitForTimeout(500);
    const { paint, shifts } = await page.evaluate(() => ({ paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime, shifts: window.shifts }));
    paints.push(paint);
    expect(shifts, `layout shift of ${to}`).toBeLessThan(0.1);
  }
  paints.sort((one, other) => one - other);
  console.log(`    first paint: median ${Math.round(paints[paints.length >> 1])} ms, longest ${Math.round(paints.at(-1))} ms`);
});
