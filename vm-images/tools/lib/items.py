"""What the tools share that look for one kind of Rust item by its name."""

import projects
import rust_source
import toolkit

RESULTS_MAX = 200


def find(kind, arguments):
    """The items of a kind that bear a name, in the files at or under a path; at most RESULTS_MAX."""
    name = arguments.text("name")
    path = arguments.text("path", ".")
    arguments.finish()
    results, searched = [], 0
    for full in projects.files(toolkit.inside(path), ".rs"):
        searched += 1
        for item in rust_source.Source(projects.text_of(full)).items():
            if item["kind"] == kind and item["name"] == name:
                if len(results) == RESULTS_MAX:
                    return answer(name, results, searched, True)
                results.append({"path": toolkit.relative(full), **item})
    return answer(name, results, searched, False)


def answer(name, results, searched, truncated):
    return {"name": name, "results": results, "count": len(results), "files_searched": searched, "truncated": truncated}
