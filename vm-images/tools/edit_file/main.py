import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import toolkit


def replace(text, operation):
    search = operation.text("search")
    replacement = operation.text("replace")
    operation.finish()
    if not search:
        raise toolkit.ToolError("`search` is empty")
    if search not in text:
        raise toolkit.ToolError("`search` was not found in the file", search=search)
    return text.replace(search, replacement)


def insert(text, operation):
    line = operation.integer("line")
    content = operation.text("content")
    operation.finish()
    lines = text.splitlines(keepends=True)
    if not 1 <= line <= len(lines) + 1:
        raise toolkit.ToolError(f"`line` is {line}, but the file has {len(lines)} lines")
    if not content.endswith("\n"):
        content += "\n"
    if line > 1 and not lines[line - 2].endswith("\n"):
        lines[line - 2] += "\n"
    return "".join(lines[: line - 1]) + content + "".join(lines[line - 1 :])


def delete(text, operation):
    start = operation.integer("start_line")
    end = operation.integer("end_line", start)
    operation.finish()
    lines = text.splitlines(keepends=True)
    if not 1 <= start <= end <= len(lines):
        raise toolkit.ToolError(f"lines {start} to {end} are not in the file of {len(lines)} lines")
    return "".join(lines[: start - 1] + lines[end:])


OPERATIONS = {"replace": replace, "insert": insert, "delete": delete}


def edit_file(arguments):
    """Applies the operations in order, each to what the one before it left; all of them or none."""
    path = arguments.text("path")
    operations = arguments.items("operations")
    arguments.finish()
    if not operations:
        raise toolkit.ToolError("`operations` is empty")
    text = toolkit.read_text(path)
    for number, operation in enumerate(operations, start=1):
        name = operation.text("operation")
        if name not in OPERATIONS:
            raise toolkit.ToolError(f"operation {number}: `{name}` is none of {', '.join(OPERATIONS)}")
        try:
            text = OPERATIONS[name](text, operation)
        except toolkit.ToolError as error:
            raise toolkit.ToolError(f"operation {number}: {error}", **error.details) from None
    size = toolkit.write_text(path, text)
    return {"path": path, "changes_applied": len(operations), "new_size": size}


if __name__ == "__main__":
    toolkit.main(edit_file)
