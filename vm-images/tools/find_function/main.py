import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import projects
import rust_source
import toolkit

RESULTS_MAX = 200


def find_function(arguments):
    name = arguments.text("name")
    path = arguments.text("path", ".")
    arguments.finish()
    results, searched = [], 0
    for full in projects.files(toolkit.inside(path), ".rs"):
        searched += 1
        for item in rust_source.Source(projects.text_of(full)).items():
            if item["kind"] == "fn" and item["name"] == name:
                if len(results) == RESULTS_MAX:
                    return answer(name, results, searched, True)
                results.append({"path": toolkit.relative(full), **item})
    return answer(name, results, searched, False)


def answer(name, results, searched, truncated):
    return {"name": name, "results": results, "count": len(results), "files_searched": searched, "truncated": truncated}


if __name__ == "__main__":
    toolkit.main(find_function)
