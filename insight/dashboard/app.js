// The frame around every page: where one is, as of when, and the keys that lead on.

import { html, useEffect, useRef, useState } from "./parts.js";
import { render } from "./vendor/preact-htm.js";
import { listen, live, send } from "./api.js";
import { amend, href, moment, navigate, onNavigate, parameters, path } from "./router.js";
import { Timeline } from "./timeline.js";
import { Overview } from "./pages/overview.js";
import { Runs } from "./pages/runs.js";
import { Run } from "./pages/run.js";
import { Evaluations } from "./pages/evaluations.js";
import { Evaluation } from "./pages/evaluation.js";
import { Subjects } from "./pages/subjects.js";
import { Subject } from "./pages/subject.js";
import { Compare } from "./pages/compare.js";
import { Workers } from "./pages/workers.js";
import { Dead } from "./pages/dead.js";
import { Letter } from "./pages/letter.js";
import { Insights } from "./pages/insights.js";
import { Alert, Alerts } from "./pages/alerts.js";
import { Healing, Healings } from "./pages/healings.js";
import { Login } from "./pages/login.js";

const NAVIGATION = [
  ["/", "Overview", "o", "M3 12 12 4l9 8M5 10v10h5v-6h4v6h5V10"],
  ["/evaluations", "Evaluations", "e", "M4 6h16M4 12h16M4 18h10"],
  ["/runs", "Runs", "r", "M5 5h14v4H5ZM5 12h9v3H5ZM5 18h11v2H5Z"],
  ["/tools", "Tools", "t", "M14 6a4 4 0 0 0 5 5l-8 8a2.8 2.8 0 0 1-4-4l8-8Z"],
  ["/models", "Models", "m", "M12 3l8 4.5v9L12 21l-8-4.5v-9ZM12 12l8-4.5M12 12v9M12 12L4 7.5"],
  ["/compare", "Compare", "c", "M8 4v16M16 4v16M4 8l4-4 4 4M12 16l4 4 4-4"],
  ["/insights", "Insights", "i", "M9 18h6M10 21h4M12 3a6 6 0 0 0-4 10.5c.7.7 1 1.5 1 2.5h6c0-1 .3-1.8 1-2.5A6 6 0 0 0 12 3Z"],
  ["/alerts", "Alerts", "a", "M12 4a5 5 0 0 0-5 5c0 5-2 6-2 7h14c0-1-2-2-2-7a5 5 0 0 0-5-5ZM10 19h4"],
  ["/healings", "Healings", "h", "M12 20s-8-5-8-11a4.5 4.5 0 0 1 8-2.8A4.5 4.5 0 0 1 20 9c0 6-8 11-8 11ZM8 11h2l2-3 2 5 1-2h2"],
  ["/workers", "Workers", "w", "M4 5h16v6H4ZM4 13h16v6H4ZM8 8h.01M8 16h.01"],
  ["/dead-letters", "Dead letters", "d", "M3 6h18v12H3ZM3 7l9 6 9-6"],
];

const PAGES = [
  [/^\/$/, Overview, "Overview"],
  [/^\/evaluations$/, Evaluations, "Evaluations"],
  [/^\/evaluations\/([^/]+)$/, Evaluation, "Evaluation"],
  [/^\/runs$/, Runs, "Runs"],
  [/^\/runs\/([^/]+)$/, ({ id }) => html`<${Run} key=${id} id=${id} />`, "Run"],
  [/^\/tools$/, () => html`<${Subjects} kind="tool" />`, "Tools"],
  [/^\/tools\/([^/]+)$/, ({ id }) => html`<${Subject} key=${id} kind="tool" id=${id} />`, "Tool"],
  [/^\/models$/, () => html`<${Subjects} kind="model" />`, "Models"],
  [/^\/models\/([^/]+)$/, ({ id }) => html`<${Subject} key=${id} kind="model" id=${id} />`, "Model"],
  [/^\/compare$/, Compare, "Compare"],
  [/^\/insights$/, Insights, "Insights"],
  [/^\/alerts$/, Alerts, "Alerts"],
  [/^\/alerts\/([^/]+)$/, ({ id }) => html`<${Alert} key=${id} id=${id} />`, "Alert"],
  [/^\/healings$/, Healings, "Healings"],
  [/^\/healings\/([^/]+)$/, ({ id }) => html`<${Healing} key=${id} id=${id} />`, "Healing"],
  [/^\/workers$/, Workers, "Workers"],
  [/^\/dead-letters$/, Dead, "Dead letters"],
  [/^\/dead-letters\/([^/]+)$/, ({ id }) => html`<${Letter} key=${id} id=${id} />`, "Dead letter"],
  [/^\/login$/, Login, "Log in"],
];

const KEYS = [
  ["g then o e r t m c i a h w d", "Go to overview, evaluations, runs, tools, models, compare, insights, alerts, healings, workers, dead letters"],
  ["/", "Search"],
  ["j k", "Next and previous row"],
  ["Enter", "Open the row"],
  ["[ ]", "A step back and forward in time"],
  ["n", "Now"],
  ["x", "Light, dark, as the system"],
  ["?", "These keys"],
];

const THEMES = ["system", "light", "dark"];

function useTheme() {
  const [theme, choose] = useState(() => localStorage.getItem("theme") ?? "system");
  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    localStorage.setItem("theme", theme);
    dispatchEvent(new Event("themechange"));
  }, [theme]);
  return [theme, () => choose((now) => THEMES[(THEMES.indexOf(now) + 1) % THEMES.length])];
}

function Live() {
  const [state, show] = useState(live());
  useEffect(() => listen((kind, data) => kind === "state" && show(data)), []);
  const past = moment();
  const [name, text] = past ? ["past", "In the past"] : state === "live" ? ["live", "Live"] : ["lost", "Connecting"];
  return html`<span class="live ${name}" role="status"><span class="pulse" aria-hidden="true"></span>${text}</span>`;
}

function Help({ dialog }) {
  return html`<dialog ref=${dialog} class="help" aria-labelledby="keys">
    <h2 id="keys">Keys</h2>
    <dl>${KEYS.map(([keys, what]) => html`<div><dt>${keys.split(" ").map((key) => (key === "then" ? " then " : html`<kbd>${key}</kbd> `))}</dt><dd>${what}</dd></div>`)}</dl>
    <form method="dialog"><button class="button" autofocus>Close</button></form>
  </dialog>`;
}

function useKeys(help, turn) {
  useEffect(() => {
    let before = "";
    const pressed = (event) => {
      const typing = event.target.closest?.("input, textarea, select, dialog[open]");
      if (event.key === "Escape" && typing) event.target.blur?.();
      if (typing || event.metaKey || event.ctrlKey || event.altKey) return;
      const go = before === "g" && NAVIGATION.find(([, , key]) => key === event.key);
      before = event.key;
      if (go) {
        before = "";
        navigate(href(go[0]));
      } else if (event.key === "/") {
        event.preventDefault();
        const search = document.querySelector("input[type=search]");
        if (search) search.focus();
        else navigate(href("/evaluations", { focus: "search" }));
      } else if (event.key === "j" || event.key === "k") {
        const links = [...document.querySelectorAll("a.row-link")];
        const at = links.indexOf(document.activeElement);
        links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))]?.focus();
      } else if (event.key === "n") amend({ as_of: undefined });
      else if (event.key === "[" || event.key === "]") dispatchEvent(new CustomEvent("timestep", { detail: event.key === "]" ? 1 : -1 }));
      else if (event.key === "x") turn();
      else if (event.key === "?") help.current?.showModal();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, []);
}

function App() {
  const [, draw] = useState(0);
  const [theme, turn] = useTheme();
  const help = useRef(null);
  const main = useRef(null);
  useEffect(() => onNavigate(() => draw((times) => times + 1)), []);
  useKeys(help, turn);
  const shown = path();
  const found = PAGES.map(([pattern, page, title]) => [shown.match(pattern), page, title]).find(([match]) => match);
  const id = found?.[0][1] && decodeURIComponent(found[0][1]);
  const title = found ? (id ?? found[2]) : "Not found";
  useEffect(() => {
    document.title = `${title} · evalfleet`;
    // A new page is read from its beginning, by eyes and by screen readers.
    if (document.activeElement?.closest("nav, .page")) main.current?.focus({ preventScroll: true });
  }, [title]);
  if (shown === "/login") return html`<${Login} />`;
  const current = (to) => (to === "/" ? shown === "/" : shown.startsWith(to));
  return html`
    <a class="skip" href="#main">To the content</a>
    <aside class="side">
      <a class="brand" href=${href("/")}><img src="/assets/icon.svg" alt="" width="28" height="28" /><span>evalfleet</span></a>
      <nav aria-label="Pages">${NAVIGATION.map(([to, text, , icon]) => html`<a href=${href(to)} aria-current=${current(to) ? "page" : undefined}>
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d=${icon} /></svg><span>${text}</span></a>`)}</nav>
      <div class="side-foot">
        <${Live} />
        <div class="side-buttons">
          <button type="button" class="plain" onClick=${turn} title="Light, dark, as the system (x)">${{ system: "Auto", light: "Light", dark: "Dark" }[theme]}</button>
          <button type="button" class="plain" onClick=${() => help.current?.showModal()} title="Keys (?)">Keys</button>
        </div>
      </div>
    </aside>
    <div class="frame">
      <${Timeline} />
      <main id="main" class="page" tabindex="-1" ref=${main}>
        ${found ? html`<${found[1]} key=${shown} id=${id} />` : html`<div class="empty" role="alert"><h1>There is no such page</h1><p><a href=${href("/")}>To the overview</a></p></div>`}
      </main>
    </div>
    <${Help} dialog=${help} />`;
}

// `evalfleet dashboard` gives a link with the token behind the #, which no server and no log sees.
async function enter() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return false;
  history.replaceState(null, "", location.pathname + location.search);
  await send("POST", "/v1/session", { token }).catch(() => {});
  return true;
}

async function begin() {
  await enter();
  if (!parameters().as_of && new URLSearchParams(location.search).has("as_of")) amend({ as_of: undefined });
  // In place of what the document shows until now.
  const place = document.getElementById("app");
  place.replaceChildren();
  render(html`<${App} />`, place);
}

// The link opened where the dashboard is open already: that loads nothing anew by itself.
addEventListener("hashchange", async () => (await enter()) && location.reload());
begin();
