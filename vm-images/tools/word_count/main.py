import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import toolkit


def word_count(arguments):
    text = arguments.text("text")
    arguments.finish()
    return {"words": len(text.split()), "lines": len(text.splitlines()), "characters": len(text)}


if __name__ == "__main__":
    toolkit.main(word_count)
