import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import cargo
import toolkit


def cargo_test(arguments):
    run = cargo.Cargo(arguments, "test").flag("release", "--release").features()
    name = arguments.text("test_name", "")
    if name.startswith("-"):
        raise toolkit.ToolError("`test_name` is part of a test's name, not an option")
    return (run.after(name) if name else run).run()


if __name__ == "__main__":
    toolkit.main(cargo_test)
