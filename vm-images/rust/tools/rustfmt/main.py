import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import programs
import toolkit

TIMEOUT_SECONDS_DEFAULT = 60
EDITION = "2021"


def rustfmt(arguments):
    code = arguments.text("code", None)
    path = arguments.text("path", None)
    check = arguments.flag("check", False)
    timeout = programs.timeout_of(arguments, TIMEOUT_SECONDS_DEFAULT)
    arguments.finish()
    if code is not None:
        if path is not None:
            raise toolkit.ToolError("either `code` or `path`, not both")
        argv = ["rustfmt", f"--edition={EDITION}", "--color=never", "--check" if check else "--emit=stdout"]
        result = programs.run(argv, toolkit.WORKSPACE, timeout, code.encode("utf-8"))
    else:
        argv = ["cargo", "fmt", *(["--check"] if check else []), "--", "--color=never"]
        result = programs.run(argv, programs.folder("." if path is None else path), timeout)
    if check and code is not None and result["stdout"]:
        # Of a text on standard input its status does not tell.
        result["exit_code"] = 1
    programs.refuse_failure(result, argv[0], timeout)
    return {"code": result["stdout"], **result} if code is not None and not check else result


if __name__ == "__main__":
    toolkit.main(rustfmt)
