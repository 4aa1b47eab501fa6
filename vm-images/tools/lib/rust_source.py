"""Finds the items of Rust source by its text alone: what stands where, not what it means.

No compiler is asked, so the code need not compile. What macros make is not seen.
"""

import re

KINDS = ("fn", "struct", "enum", "union", "trait", "impl", "mod", "macro_rules")

ITEM = re.compile(
    r"(?P<visibility>\bpub\b(?:\s*\([^()]*\))?\s+)?"
    r"(?P<qualifiers>(?:\b(?:default|const|async|unsafe|safe|extern)\b\s+)*)"
    r"(?:\b(?P<kind>fn|struct|enum|union|trait|mod)\s+(?:r#)?(?P<name>\w+)|\b(?P<impl>impl)\b|\b(?P<macro>macro_rules)\s*!\s*(?P<macro_name>\w+))"
)
QUOTED = re.compile(
    r'//[^\n]*|/\*|b?c?r(?P<hashes>#*)"|[bc]?"(?:\\.|[^"\\])*"?'
    # A lifetime is no character: 'a is one only where a quote closes it.
    r"|b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^'\\\n])'",
    re.DOTALL,
)
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}


def masked(text):
    """`text` with comments and literals blanked: as long as before, its lines where they were."""
    out, at = [], 0
    while found := QUOTED.search(text, at):
        begin, end = found.span()
        if found[0] == "/*":
            end = _comment_end(text, begin)
        elif found["hashes"] is not None:
            close = text.find('"' + found["hashes"], end)
            end = len(text) if close < 0 else close + 1 + len(found["hashes"])
        out.append(text[at:begin])
        out.append(re.sub(r"[^\n]", " ", text[begin:end]))
        at = end
    out.append(text[at:])
    return "".join(out)


def _comment_end(text, begin):
    """Comments nest."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", text[begin:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return begin + mark.end()
    return len(text)


def closing(text, begin):
    """Where what opens at `begin` is closed; the end of the text where it is not."""
    opens, closes = text[begin], CLOSING[text[begin]]
    depth, at = 0, begin
    while at < len(text):
        if text[at] == opens:
            depth += 1
        # The arrow of a return type closes nothing.
        elif text[at] == closes and not (closes == ">" and text[at - 1] in "-="):
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return len(text)


def parts(text):
    """The parts of a list, separated by commas that stand in no brackets."""
    found, depth, begin = [], 0, 0
    for at, character in enumerate(text):
        if character in "([{<":
            depth += 1
        elif character in ")]}" or (character == ">" and text[at - 1] not in "-="):
            depth -= 1
        elif character == "," and depth == 0:
            found.append(text[begin:at])
            begin = at + 1
    found.append(text[begin:])
    return [part for part in (" ".join(part.split()) for part in found) if part]


class Source:
    """One text, and the items in it."""

    def __init__(self, text):
        # Comments are not told of; literals in a default or a discriminant are blanks.
        self._code = masked(text)
        self._line_starts = [0, *(mark.end() for mark in re.finditer("\n", text))]

    def items(self):
        """Every item, in its order: its kind, name, visibility, lines, and what it stands in."""
        found, around = [], []
        at = 0
        while match := ITEM.search(self._code, at):
            at = match.end()
            item, body_end = self._item(match)
            if item is None:
                continue
            around = [(end, name) for end, name in around if end > match.start()]
            item["parent"] = around[-1][1] if around else None
            around.append((body_end, f"{item['kind']} {item['name']}"))
            found.append(item)
        return found

    def line(self, at):
        """The line of a position, from 1."""
        low, high = 0, len(self._line_starts)
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (middle, high) if self._line_starts[middle] <= at else (low, middle)
        return low + 1

    def _item(self, match):
        kind = match["kind"] or match["impl"] or match["macro"]
        head_end = self._head_end(match.end(), kind)
        if kind == "impl" and not self._begins_statement(match.start()):
            # `impl Trait` as a type.
            return None, 0
        opens = self._code[head_end : head_end + 1] == "{"
        end = closing(self._code, head_end) if opens else head_end
        head = self._code[match.end() : head_end]
        item = {
            "kind": kind,
            "name": match["name"] or match["macro_name"] or _implemented(head),
            "visibility": " ".join((match["visibility"] or "private").split()),
            "line": self.line(match.start()),
            "end_line": self.line(min(end, len(self._code) - 1)),
        }
        body = self._code[head_end + 1 : end] if opens else ""
        if kind == "fn":
            item.update(_signature(head, match["qualifiers"].split()))
        elif kind in ("struct", "union"):
            item["fields"] = _fields(head, body)
        elif kind == "enum":
            item["variants"] = [name[0] for part in parts(_without_attributes(body)) if (name := re.search(r"\w+", part))]
        return item, end

    def _head_end(self, at, kind):
        """Where an item's body or its semicolon is."""
        depth = 0
        for position in range(at, len(self._code)):
            character = self._code[position]
            if character in "([":
                depth += 1
            elif character in ")]":
                depth -= 1
            elif depth <= 0 and character in "{;":
                return position
        return len(self._code)

    def _begins_statement(self, at):
        before = self._code[:at].rstrip()
        return not before or before[-1] in "};]{"


def _without_attributes(text):
    return re.sub(r"#!?\s*\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]", " ", text)


def _after_generics(head):
    rest = head.lstrip()
    return rest[closing(rest, 0) + 1 :] if rest.startswith("<") else rest


def _implemented(head):
    """`Trait for Type`, or the type alone."""
    return " ".join(re.split(r"\bwhere\b", _after_generics(head))[0].split())


def _signature(head, qualifiers):
    rest = _after_generics(head)
    begin = rest.find("(")
    if begin < 0:
        return {"async": "async" in qualifiers, "unsafe": "unsafe" in qualifiers, "parameters": [], "returns": None}
    end = closing(rest, begin)
    returns = re.match(r"\s*->\s*(.*?)\s*(?:\bwhere\b.*)?$", rest[end + 1 :], re.DOTALL)
    return {
        "async": "async" in qualifiers,
        "unsafe": "unsafe" in qualifiers,
        "parameters": parts(_without_attributes(rest[begin + 1 : end])),
        "returns": " ".join(returns[1].split()) if returns else None,
    }


def _fields(head, body):
    """Name, type and visibility of each; those of a tuple have their index for a name."""
    rest = _after_generics(head)
    if not body and "(" in rest:
        begin = rest.find("(")
        texts = parts(_without_attributes(rest[begin + 1 : closing(rest, begin)]))
    else:
        texts = parts(_without_attributes(body))
    found = []
    for index, text in enumerate(texts):
        visibility, rest = re.match(r"(pub(?:\s*\([^()]*\))?\s+)?(.*)$", text).groups()
        name, colon, kind = rest.partition(":")
        named = colon and re.fullmatch(r"(?:r#)?\w+\s*", name)
        found.append(
            {
                "name": name.strip() if named else str(index),
                "type": kind.strip() if named else rest,
                "visibility": " ".join((visibility or "private").split()),
            }
        )
    return found
