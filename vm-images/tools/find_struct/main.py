import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import items
import toolkit


def find_struct(arguments):
    return items.find("struct", arguments)


if __name__ == "__main__":
    toolkit.main(find_struct)
