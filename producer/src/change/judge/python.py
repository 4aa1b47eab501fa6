"""Python: each file in an interpreter of its own, which reports over the channel."""


def run_tests(judge, turn):
    for path in judge.order["files"]:
        secret = posix.urandom(16).hex()
        config = {"file": path, "project": PROJECT, "secret": secret}
        source = "CONFIG = %r\n%s" % (config, PYTESTS)
        argv = ["python3", "-B", "-s", "-"]
        ended = run(argv, judge.user, judge.order["step_seconds"], source.encode(), channel=True)
        judge.note("test", path, ended, turn)
        heard(judge, path, turn, secret, ended)


def heard(judge, path, turn, secret, ended):
    import json

    finished, canaries = False, 0
    for line in ended.channel.splitlines():
        word, _, text = line.partition(" ")
        if word != secret:
            judge.finding("runner.tampered", path, "something else than the runner wrote to its channel", line)
            continue
        said = json.loads(text)
        if "test" in said:
            judge.result(said["test"], turn, said["outcome"], said["message"])
        elif "canary" in said:
            canaries += 1
            if said["outcome"] != "failed":
                judge.finding("runner.tampered", path, "a test that must fail is reported as %s: %s"
                              % (said["outcome"], said["canary"]))
        elif "tampered" in said:
            judge.finding("runner.tampered", path, said["tampered"])
        elif "end" in said:
            finished = True
    if finished and canaries == 0:
        judge.finding("runner.tampered", path, "no test that must fail was reported")
    if not finished:
        outcome = "timed_out" if ended.how == "timeout" else "cut_short"
        judge.result(path, turn, outcome, "its process ended (%s %d) before its tests were done: %s"
                     % (ended.how, ended.code, ended.output))
