import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import items
import toolkit


def find_function(arguments):
    return items.find("fn", arguments)


if __name__ == "__main__":
    toolkit.main(find_function)
