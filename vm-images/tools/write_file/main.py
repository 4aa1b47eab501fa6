import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import toolkit


def write_file(arguments):
    path = arguments.text("path")
    content = arguments.text("content")
    create_dirs = arguments.flag("create_dirs", True)
    arguments.finish()
    full = toolkit.inside(path)
    parent = os.path.dirname(full)
    if not os.path.isdir(parent):
        if not create_dirs:
            raise toolkit.ToolError(f"the directory of `{path}` does not exist, and create_dirs is false")
        os.makedirs(parent, exist_ok=True)
    created = not os.path.lexists(full)
    return {"path": path, "bytes_written": toolkit.write_text(path, content), "created": created}


if __name__ == "__main__":
    toolkit.main(write_file)
