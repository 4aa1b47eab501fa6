// What a job left different on its disk, as a tree; and what changed in its files, line by line.

import { html, useEffect, useState } from "./parts.js";
import { get } from "./api.js";
import { bytes, count, short } from "./format.js";

const MARKS = { created: "+", changed: "~", deleted: "−", replaced: "±" };
const LINES = { added: "+", removed: "−", same: " " };

function grow(effects) {
  const root = { name: "/", children: new Map(), effect: null, count: 0, unexpected: 0 };
  for (const effect of effects) {
    let node = root;
    for (const part of effect.path.split("/").filter(Boolean)) {
      node.count += 1;
      node.unexpected += effect.expected ? 0 : 1;
      if (!node.children.has(part)) node.children.set(part, { name: part, children: new Map(), effect: null, count: 0, unexpected: 0 });
      node = node.children.get(part);
    }
    node.effect = effect;
  }
  return root;
}

/** Folders with one child and no effect of their own are one line. */
function squeezed(node) {
  let { name } = node;
  while (!node.effect && node.children.size === 1) {
    const [child] = node.children.values();
    name = name === "/" ? `/${child.name}` : `${name}/${child.name}`;
    node = child;
  }
  return { ...node, name };
}

const SIDES = { absent: "no file", text: "text", binary: "binary", too_long: "too long to be kept", not_at_hand: "the image's own" };
const side = ({ is, bytes: length }) => (is === "absent" ? SIDES[is] : `${SIDES[is] ?? is}, ${bytes(length)}`);

function Lines({ hunk, label }) {
  return html`<table class="diff" aria-label=${label}><tbody>${hunk.lines.map((line) => html`<tr class=${line.is}>
    <td class="line-number">${line.before ?? ""}</td><td class="line-number">${line.after ?? ""}</td>
    <td class="line-mark">${line.is === "same" ? "" : html`<span aria-hidden="true">${LINES[line.is]}</span><span class="sr">${line.is}</span>`}</td><td class="line-text">${line.text}</td></tr>`)}</tbody></table>`;
}

/** What changed in one file. */
function Diff({ id, path }) {
  const [shown, show] = useState({});
  useEffect(() => {
    const controller = new AbortController();
    get(`/v1/evaluations/${encodeURIComponent(id)}/diff`, { path }, controller.signal)
      .then((data) => show({ data }), (error) => error.name !== "AbortError" && show({ error }));
    return () => controller.abort();
  }, [id, path]);
  const { data, error } = shown;
  if (error) return html`<p class="notice error" role="alert">${error.message}</p>`;
  if (!data) return html`<p class="muted small-print" aria-busy="true">Looking…</p>`;
  const alone = data.before.is === "not_at_hand" && data.after.is === "text";
  return html`<div class="diff-frame" tabindex="0" role="group" aria-label=${`What changed in ${path}`}>
    <p class="diff-head"><span class="plus">+${count(data.added)}</span> <span class="minus">−${count(data.removed)}</span>
      <span class="muted">${alone ? `what was there is ${SIDES.not_at_hand}; this is what is there now` : `${side(data.before)} → ${side(data.after)}`}</span></p>
    ${data.hunks.map((hunk, index) => html`<${Lines} hunk=${hunk} label=${`Change ${index + 1} of ${data.hunks.length} in ${path}`} />`)}
    ${data.omitted > 0 && html`<p class="muted small-print">${count(data.omitted)} more lines are not shown.</p>`}</div>`;
}

/** Whether there are lines to be shown; otherwise what there is, in words. */
function comparable(content) {
  const [before, after] = [content.before.is, content.after.is];
  return (after === "text" || after === "absent") && (before === "text" || before === "absent" || (before === "not_at_hand" && after === "text"));
}

function Node({ node: raw, depth, id }) {
  const node = squeezed(raw);
  const { effect } = node;
  const folder = node.children.size > 0;
  const [open, turn] = useState(depth < 3 || node.count < 12);
  const [shown, show] = useState(false);
  const content = effect?.content;
  const children = [...node.children.values()].sort((one, other) => one.name.localeCompare(other.name));
  return html`<li role="treeitem" aria-expanded=${folder ? String(open) : undefined}>
    <div class="effect ${effect?.change ?? ""}">
      ${folder ? html`<button type="button" class="fold" aria-label=${`${open ? "Close" : "Open"} ${node.name}`} onClick=${() => turn(!open)}>${open ? "▾" : "▸"}</button>` : html`<span class="fold"></span>`}
      ${effect && html`<span class="effect-mark" title=${effect.change}>${MARKS[effect.change] ?? "·"}<span class="sr"> ${effect.change}</span></span>`}
      <code>${node.name}${effect?.target ? ` → ${effect.target}` : ""}</code>
      ${effect && !effect.expected && html`<span class="tag warn" title="Not announced by the tool or by --expect">unexpected</span>`}
      ${effect?.renamed_from && html`<span class="tag" title=${effect.renamed_from}>moved from ${effect.renamed_from}</span>`}
      ${content && (comparable(content)
        ? html`<button type="button" class="chip small" aria-expanded=${String(shown)} aria-label=${`What changed in ${effect.path}`} onClick=${() => show(!shown)}>${shown ? "Hide" : "Diff"}</button>`
        : html`<span class="tag" title="Before and after">${side(content.before)} → ${side(content.after)}</span>`)}
      ${effect && html`<span class="effect-more muted">${effect.type}${effect.size !== null && effect.size !== undefined && effect.type === "file" ? ` · ${bytes(effect.size)}` : ""}${effect.mode ? ` · ${effect.mode}` : ""}${effect.sha256 ? html` · <span title=${effect.sha256}>${short(effect.sha256, 8)}</span>` : ""}</span>`}
      ${!effect && folder && html`<span class="muted">${node.count} effects${node.unexpected ? `, ${node.unexpected} unexpected` : ""}</span>`}
    </div>
    ${shown && html`<${Diff} id=${id} path=${effect.path} />`}
    ${folder && open && html`<ul role="group">${children.map((child) => html`<${Node} key=${child.name} node=${child} depth=${depth + 1} id=${id} />`)}</ul>`}
  </li>`;
}

export function Effects({ effects, omitted, id }) {
  if (!effects.length) return html`<p class="muted">It left its disk as it was.</p>`;
  return html`<ul class="tree" role="tree" aria-label="Effects"><${Node} node=${grow(effects)} depth=${0} id=${id} /></ul>
    ${omitted ? html`<p class="notice">${omitted} more are not listed.</p>` : null}`;
}
