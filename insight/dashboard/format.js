// Numbers, times and names as people read them.

const whole = new Intl.NumberFormat("en");

export const count = (number) => (number === null || number === undefined ? "–" : whole.format(number));

export const percent = (share, digits = 1) =>
  share === null || share === undefined ? "–" : `${(share * 100).toFixed(share === 1 || share === 0 ? 0 : digits)} %`;

export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "–";
  if (milliseconds < 1) return `${milliseconds.toFixed(2)} ms`;
  if (milliseconds < 1000) return `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(2) : seconds.toFixed(1)} s`;
  const minutes = seconds / 60;
  return minutes < 60 ? `${Math.floor(minutes)} min ${Math.round(seconds % 60)} s` : `${(minutes / 60).toFixed(1)} h`;
}

export function bytes(number) {
  if (number === null || number === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${unit && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}

const pad = (number) => String(number).padStart(2, "0");

/** A moment in UTC: everybody who looks sees the same. */
export function time(text, seconds = true) {
  if (!text) return "–";
  const at = new Date(text);
  const day = `${at.getUTCFullYear()}-${pad(at.getUTCMonth() + 1)}-${pad(at.getUTCDate())}`;
  const clock = `${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}`;
  return `${day} ${clock}${seconds ? `:${pad(at.getUTCSeconds())}` : ""}`;
}

export const day = (text) => time(text).slice(0, 10);

export function ago(text, now = Date.now()) {
  const seconds = Math.max(0, (now - new Date(text)) / 1000);
  const steps = [[60, "s"], [60, "min"], [24, "h"], [30, "d"], [12, "months"], [Infinity, "years"]];
  let value = seconds;
  for (const [step, unit] of steps) {
    if (value < step) return `${Math.floor(value)} ${unit} ago`;
    value /= step;
  }
  return time(text);
}

/** The beginning of an id or a digest, long enough to tell them apart. */
export function short(text, length = 13) {
  if (!text) return "–";
  const plain = text.replace(/^sha256:/, "");
  return plain.length > length ? `${plain.slice(0, length)}…` : plain;
}

/** An id in a list: ids made in the same minute begin alike, so their ends are shown as well. */
export const brief = (id) => (/^[0-9a-f-]{36}$/.test(id) ? `${id.slice(0, 8)}…${id.slice(-6)}` : short(id, 26));

export const points = (share) => `${share > 0 ? "+" : ""}${(share * 100).toFixed(1)}`;

export function probability(p) {
  if (p === null || p === undefined) return "–";
  return p < 0.001 ? p.toExponential(1) : p.toFixed(3);
}
