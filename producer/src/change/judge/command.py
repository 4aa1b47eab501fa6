"""Any command: a test is a process, its exit status the result."""


def run_tests(judge, turn):
    for test in judge.order["tests"]:
        ended = judge.step("test", test["name"], test["argv"], turn)
        outcome = "passed" if ended.ok() else "timed_out" if ended.how == "timeout" else "failed"
        judge.result(test["name"], turn, outcome, ended.output)
        # Only where this word can be relied on: of the watched run nobody asks for it.
        probe = to_its_end(test["argv"]) if judge.user else None
        if turn == 1 and probe and outcome == "passed":
            judge.step("probe", test["name"], probe)


def to_its_end(argv):
    """A shell script that is run as `sh FILE …`, with an end of ours behind its own: who gets there runs it whole."""
    if len(argv) < 2 or argv[0].rpartition("/")[2] not in ("sh", "dash", "bash") or argv[1].startswith("-"):
        return None
    script = argv[1] if "/" in argv[1] else "./" + argv[1]
    return [argv[0], "-c", '. "$0"; exit 97', script] + argv[2:]
