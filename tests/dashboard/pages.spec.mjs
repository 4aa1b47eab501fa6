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
  await shoot(page, "evaluation");
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
  await expect(page.getByRole("region", { name: "Dead letter" })).toContainText("attempts spent");
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
  await expect(page.getByRole("button", { name: "Wrong" })).toBeDisabled();
  await page.getByLabel("Reason").fill("the fixture was changed");
  // The stage has no broker.
  await page.getByRole("button", { name: "Wrong" }).click();
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
  await page.keyboard.press("/");
  await expect(page.getByRole("searchbox")).toBeFocused();
});

test("an API that is gone is an error that says what helps", async ({ page, stage }) => {
  await page.route("**/v1/tools*", (route) => route.fulfill({ status: 503, contentType: "application/problem+json", body: JSON.stringify({ title: "store unavailable", detail: "the gateway does not answer", status: 503 }) }));
  await page.goto(`${stage.url}/tools`);
  await expect(page.getByRole("alert")).toContainText("the gateway does not answer");
});

const PAGES = ["/", "/evaluations", "/tools", "/tools/edit_file", "/models", "/compare?base=run:nightly-old&head=run:nightly-new", "/insights", "/alerts", "/workers", "/dead-letters"];

for (const scheme of ["light", "dark"]) {
  test(`no page fails WCAG AA in ${scheme}`, async ({ page, stage }) => {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    for (const to of [...PAGES, `/alerts/${stage.jobs.alert}`, `/evaluations/${stage.jobs.rich}`, `/evaluations/${stage.jobs.batches[0]}`]) {
      await open(page, stage, to);
      await expect(page.locator(".stale")).toHaveCount(0);
      const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]).analyze();
      expect(violations.map(({ id, nodes }) => `${to}: ${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`)).toEqual([]);
    }
    if (scheme === "dark") {
      await open(page, stage);
      await shoot(page, "overview-dark");
    }
  });
}

test("narrow screens: nothing is wider than the screen", async ({ page, stage }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  for (const to of [...PAGES, `/evaluations/${stage.jobs.rich}`]) {
    await open(page, stage, to);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(wide, to).toBeLessThanOrEqual(0);
  }
  await open(page, stage);
  await shoot(page, "narrow");
});

test("pages are there at once, and nothing on them jumps", async ({ page, stage }) => {
  await page.addInitScript(() => {
    window.shifts = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => (window.shifts += entry.hadRecentInput ? 0 : entry.value))).observe({ type: "layout-shift", buffered: true });
  });
  const paints = [];
  for (const to of PAGES) {
    await open(page, stage, to);
    await page.waitForTimeout(500);
    const { paint, shifts } = await page.evaluate(() => ({ paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime, shifts: window.shifts }));
    paints.push(paint);
    expect(shifts, `layout shift of ${to}`).toBeLessThan(0.1);
  }
  paints.sort((one, other) => one - other);
  console.log(`    first paint: median ${Math.round(paints[paints.length >> 1])} ms, longest ${Math.round(paints.at(-1))} ms`);
});
