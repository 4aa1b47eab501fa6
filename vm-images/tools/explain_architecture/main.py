import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import re

import projects
import rust_source
import toolkit

LEVELS = ("low", "medium", "high")
LANGUAGES = {".rs": "Rust", ".py": "Python", ".js": "JavaScript", ".ts": "TypeScript", ".c": "C", ".sh": "shell"}
# What a file says of itself before anything else.
DOCUMENTED = {
    ".rs": re.compile(r"\s*((?:[ \t]*//![^\n]*\n?)+)"),
    ".py": re.compile(r'\s*(?:#[^\n]*\n\s*)*(?:r?"""|r?\'\'\')(.*?)(?:"""|\'\'\')', re.DOTALL),
}
PYTHON_ITEM = re.compile(r"^(?:async\s+)?(def|class)\s+(\w+)", re.MULTILINE)


def purpose(suffix, text):
    """The first paragraph of a file's own documentation."""
    found = DOCUMENTED[suffix].match(text) if suffix in DOCUMENTED else None
    if not found:
        return None
    said = re.sub(r"^[ \t]*//!", "", found[1], flags=re.MULTILINE).strip()
    return " ".join(re.split(r"\n\s*\n", said)[0].split()) or None


def items(suffix, text):
    """What a file offers to others."""
    if suffix == ".rs":
        return [
            {"kind": item["kind"], "name": item["name"], "line": item["line"]}
            for item in rust_source.Source(text).items()
            if item["visibility"] == "pub" and item["kind"] != "mod"
        ]
    if suffix == ".py":
        return [
            {"kind": found[1], "name": found[2], "line": text.count("\n", 0, found.start()) + 1}
            for found in PYTHON_ITEM.finditer(text)
            if found[2][0] != "_"
        ]
    return []


def explain_architecture(arguments):
    level = arguments.text("detail_level", "medium")
    arguments.finish()
    if level not in LEVELS:
        raise toolkit.ToolError(f"`detail_level` must be one of {', '.join(LEVELS)}")
    start = toolkit.inside(".")
    languages, modules = {}, []
    for full in projects.files(start):
        suffix = os.path.splitext(full)[1]
        if suffix not in LANGUAGES:
            continue
        text = projects.text_of(full)
        language = languages.setdefault(LANGUAGES[suffix], {"files": 0, "lines": 0})
        language["files"] += 1
        language["lines"] += len(text.splitlines())
        module = {"path": toolkit.relative(full), "purpose": purpose(suffix, text)}
        if level == "high":
            module["offers"] = items(suffix, text)
        modules.append(module)
    answer = {"projects": projects.manifests(start), "languages": languages}
    if level != "low":
        answer["modules"] = modules
    return answer


if __name__ == "__main__":
    toolkit.main(explain_architecture)
