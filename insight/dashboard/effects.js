// What a job left different on its disk, as a tree.

import { html, useState } from "./parts.js";
import { bytes, short } from "./format.js";

const MARKS = { created: "+", changed: "~", deleted: "−", replaced: "±" };

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

function Node({ node: raw, depth }) {
  const node = squeezed(raw);
  const { effect } = node;
  const folder = node.children.size > 0;
  const [open, turn] = useState(depth < 3 || node.count < 12);
  const children = [...node.children.values()].sort((one, other) => one.name.localeCompare(other.name));
  return html`<li role="treeitem" aria-expanded=${folder ? String(open) : undefined}>
    <div class="effect ${effect?.change ?? ""}">
      ${folder ? html`<button type="button" class="fold" aria-label=${`${open ? "Close" : "Open"} ${node.name}`} onClick=${() => turn(!open)}>${open ? "▾" : "▸"}</button>` : html`<span class="fold"></span>`}
      ${effect && html`<span class="effect-mark" title=${effect.change}>${MARKS[effect.change] ?? "·"}<span class="sr"> ${effect.change}</span></span>`}
      <code>${node.name}${effect?.target ? ` → ${effect.target}` : ""}</code>
      ${effect && !effect.expected && html`<span class="tag warn" title="Not announced by the tool or by --expect">unexpected</span>`}
      ${effect?.renamed_from && html`<span class="tag" title=${effect.renamed_from}>moved from ${effect.renamed_from}</span>`}
      ${effect && html`<span class="effect-more muted">${effect.type}${effect.size !== null && effect.size !== undefined && effect.type === "file" ? ` · ${bytes(effect.size)}` : ""}${effect.mode ? ` · ${effect.mode}` : ""}${effect.sha256 ? html` · <span title=${effect.sha256}>${short(effect.sha256, 8)}</span>` : ""}</span>`}
      ${!effect && folder && html`<span class="muted">${node.count} effects${node.unexpected ? `, ${node.unexpected} unexpected` : ""}</span>`}
    </div>
    ${folder && open && html`<ul role="group">${children.map((child) => html`<${Node} key=${child.name} node=${child} depth=${depth + 1} />`)}</ul>`}
  </li>`;
}

export function Effects({ effects, omitted }) {
  if (!effects.length) return html`<p class="muted">It left its disk as it was.</p>`;
  return html`<ul class="tree" role="tree" aria-label="Effects"><${Node} node=${grow(effects)} depth=${0} /></ul>
    ${omitted ? html`<p class="notice">${omitted} more are not listed.</p>` : null}`;
}
