// The stage: a real gateway with a history in it, the API, and somebody who is logged in.
import { test as base, expect } from "@playwright/test";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import path from "node:path";

const program = process.env.STAGE ?? path.resolve(import.meta.dirname, "../../target/debug/dashboard-stage");

/** Starts a stage; gives what it says of itself, and how to have it record something and end. */
export async function begin(environment = {}) {
  const child = spawn(program, { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...environment } });
  const ended = new Promise((_, refuse) => child.once("exit", (code) => refuse(new Error(`the stage ended with ${code}`))));
  ended.catch(() => {});
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await Promise.race([lines.next(), ended])).value);
  const stage = await next();
  stage.record = async (id) => {
    child.stdin.write(`record ${id}\n`);
    return next();
  };
  stage.end = async () => {
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.stdin.end();
    await gone;
  };
  return stage;
}

export const test = base.extend({
  stage: [async ({}, use) => {
    const stage = await begin();
    await use(stage);
    await stage.end();
  }, { scope: "worker", timeout: 240_000 }],
  // Every page: logged in, nothing fetched from elsewhere, no error in its console.
  page: async ({ page, stage }, use) => {
    const faults = [];
    page.on("console", (message) => message.type() === "error" && !/\b(40[0-9]|503)\b/.test(message.text()) && faults.push(message.text()));
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("request", (request) => !request.url().startsWith(stage.url) && !request.url().startsWith("data:") && faults.push(`fetched ${request.url()}`));
    // ASSETS=FOLDER: the pages' files come from there, so that a change is seen before it is built.
    if (process.env.ASSETS) {
      await page.route(/\/assets\/[0-9a-f]{16}\//, (route) => route.fulfill({ path: path.resolve(import.meta.dirname, "../..", process.env.ASSETS, new URL(route.request().url()).pathname.replace(/^\/assets\/[0-9a-f]{16}\//, "")) }));
    }
    await page.context().request.post(`${stage.url}/v1/session`, { data: { token: stage.token } });
    await use(page);
    expect(faults, "errors on the page").toEqual([]);
  },
});

export { expect };
