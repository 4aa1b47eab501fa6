import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import cargo
import toolkit


def build(arguments):
    return cargo.Cargo(arguments, "build").flag("release", "--release").flag("all_targets", "--all-targets").features().target().run()


if __name__ == "__main__":
    toolkit.main(build)
