import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import cargo
import toolkit


def clippy(arguments):
    return cargo.Cargo(arguments, "clippy").flag("all_targets", "--all-targets").flag("fix", "--fix", "--allow-no-vcs", "--allow-dirty").features().run()


if __name__ == "__main__":
    toolkit.main(clippy)
