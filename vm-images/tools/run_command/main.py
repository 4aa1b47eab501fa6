import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import programs
import toolkit

TIMEOUT_SECONDS_DEFAULT = 60


def run_command(arguments):
    command = arguments.text("command")
    cwd = arguments.text("cwd", ".")
    timeout = programs.timeout_of(arguments, TIMEOUT_SECONDS_DEFAULT)
    arguments.finish()
    if "\0" in command:
        raise toolkit.ToolError("a command cannot contain a NUL byte")
    result = programs.run(["/bin/sh", "-c", command], programs.folder(cwd), timeout)
    programs.refuse_failure(result, "the command", timeout)
    return result


if __name__ == "__main__":
    toolkit.main(run_command)
