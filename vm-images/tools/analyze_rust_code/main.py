import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import rust_source
import toolkit

LISTS = {"fn": "functions", "struct": "structs", "enum": "enums", "trait": "traits", "impl": "impls", "mod": "modules"}


def analyze_rust_code(arguments):
    code = arguments.text("code")
    arguments.finish()
    if len(code) > toolkit.FILE_BYTES_MAX:
        raise toolkit.ToolError(f"`code` has more than {toolkit.FILE_BYTES_MAX} characters")
    found = {name: [] for name in LISTS.values()}
    for item in rust_source.Source(code).items():
        if item["kind"] in LISTS:
            found[LISTS[item.pop("kind")]].append(item)
    return {**found, "summary": {name: len(items) for name, items in found.items()}}


if __name__ == "__main__":
    toolkit.main(analyze_rust_code)
