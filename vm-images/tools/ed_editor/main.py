import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import programs
import toolkit

TIMEOUT_SECONDS = 20
# A buffer that nobody named lies here, and goes.
SCRATCH = "/tmp/ed_editor"


def edit(folder, name, commands):
    """Runs GNU ed, restricted to `folder` and without a shell; the first command that it refuses ends it."""
    script = "".join(command + "\n" for command in commands).encode("utf-8", "surrogateescape")
    result = programs.run(["ed", "--restricted", "--quiet", "--verbose", name], folder, TIMEOUT_SECONDS, script)
    if result["timed_out"] or result["exit_code"] != 0:
        said = (result["stdout"].rstrip().rsplit("\n", 1)[-1] or result["stderr"].strip()).strip()
        if "modified" in said:
            said = "the buffer was changed and not written: end with `w`, or give it up with `Q`"
        said = said.removeprefix("script, ")
        raise toolkit.ToolError(f"ed stopped: {said or 'no answer in time'}", output=result["stdout"])
    return result["stdout"]


def ed_editor(arguments):
    commands = arguments.texts("commands")
    file = arguments.text("file", None)
    content = arguments.text("content", None)
    arguments.finish()
    if file is None and content is None:
        raise toolkit.ToolError("`file` or `content` is required: there is nothing to edit")
    if file is None:
        os.makedirs(SCRATCH, exist_ok=True)
        full = os.path.join(SCRATCH, str(os.getpid()))
    else:
        full = toolkit.inside(file)
        if content is not None and os.path.exists(full):
            raise toolkit.ToolError(f"`{file}` exists: `content` is what a new file begins with")
        if content is None:
            toolkit.read_text(file)
        elif not os.path.isdir(os.path.dirname(full)):
            raise toolkit.ToolError(f"`{file}`: its directory does not exist")
    if content is not None:
        with open(full, "wb") as fresh:
            fresh.write(content.encode("utf-8"))
    try:
        output = edit(os.path.dirname(full), os.path.basename(full), commands)
        with open(full, "rb") as edited:
            text = edited.read().decode("utf-8", "replace")
    except toolkit.ToolError:
        if file is not None and content is not None:
            os.remove(full)
        raise
    finally:
        if file is None and os.path.exists(full):
            os.remove(full)
    return {"file": file, "output": output, "content": text, "line_count": len(text.splitlines())}


if __name__ == "__main__":
    toolkit.main(ed_editor)
