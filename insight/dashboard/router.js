// Addresses: a path and a query that say everything about what is shown, so that every view is a link.

const listeners = new Set();

export const path = () => location.pathname;
export const parameters = () => Object.fromEntries(new URLSearchParams(location.search));

/** The moment as of which everything is shown; undefined for now. */
export const moment = () => new URLSearchParams(location.search).get("as_of") || undefined;

/** An address of the dashboard, as of the same moment. */
export function href(to, query = {}) {
  const all = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...query, as_of: "as_of" in query ? query.as_of : moment() })) {
    if (value !== undefined && value !== null && value !== "") all.set(name, value);
  }
  const text = all.toString();
  return to + (text ? `?${text}` : "");
}

export function navigate(to, { replace = false } = {}) {
  if (to === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  for (const listener of listeners) listener();
}

/** Changes parameters of the shown address; those without a value go. */
export function amend(changes, options = { replace: true }) {
  navigate(href(path(), { ...parameters(), ...changes }), options);
}

export function onNavigate(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

addEventListener("popstate", () => {
  for (const listener of listeners) listener();
});

// Links within the dashboard change the page without loading it anew.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const inner = link.origin === location.origin && !link.hasAttribute("download") && link.target !== "_blank";
  // A place on the same page is the browser's to go to.
  if (link.hash && link.pathname === location.pathname && link.search === location.search) return;
  if (!inner || /^\/(v1|assets|health|openapi)/.test(link.pathname)) return;
  event.preventDefault();
  navigate(link.pathname + link.search);
  scrollTo(0, 0);
});
