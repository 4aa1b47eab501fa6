import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import toolkit


def read_file(arguments):
    path = arguments.text("path")
    arguments.finish()
    content = toolkit.read_text(path)
    return {
        "path": path,
        "content": content,
        "size": len(content.encode("utf-8")),
        "lines": len(content.splitlines()),
    }


if __name__ == "__main__":
    toolkit.main(read_file)
