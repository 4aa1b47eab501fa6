// The stage: a real gateway with a history in it, the API, and somebody who is logged in.
import { test as base, expect } from "@playwright/test";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import path from "node:path";

const program = process.env.STAGE ?? path.resolve(import.meta.dirname, "../../target/debug/dashboard-stage");

export const test = base.extend({
  stage: [async ({}, use) => {
    const child = spawn(program, { stdio: ["pipe", "pipe", "inherit"] });
    const ended = new Promise((_, refuse) => child.once("exit", (code) => refuse(new Error(`the stage ended with ${code}`))));
    ended.catch(() => {});
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async () => JSON.parse((await Promise.race([lines.next(), ended])).value);
    const stage = await next();
    stage.record = async (id) => {
      child.stdin.write(`record ${id}\n`);
      return next();
    };
    await use(stage);
    child.stdin.end();
    await new Promise((resolve) => child.once("exit", resolve));
  }, { scope: "worker", timeout: 240_000 }],
  // Every page: logged in, nothing fetched from elsewhere, no error in its console.
  page: async ({ page, stage }, use) => {
    const faults = [];
    page.on("console", (message) => message.type() === "error" && !/\b(40[0-9]|503)\b/.test(message.text()) && faults.push(message.text()));
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("request", (request) => !request.url().startsWith(stage.url) && !request.url().startsWith("data:") && faults.push(`fetched ${request.url()}`));
    await page.context().request.post(`${stage.url}/v1/session`, { data: { token: stage.token } });
    await use(page);
    expect(faults, "errors on the page").toEqual([]);
  },
});

export { expect };
