# Runs the tests of one file, in the interpreter that reads this on its standard input, behind a line that sets CONFIG.
#
# Every result goes over descriptor 3 at once, with the secret before it. Behind the tests come some that must fail: where
# they are reported as anything else, whoever reports is not to be believed.

import sys

# The folder that Python was started in must not come before its own library.
sys.path[:] = [place for place in sys.path if place]

import json
import os

if "pytest" not in sys.modules:
    try:
        import pytest
    except ImportError:
        pytest = None


def speaker(secret, dumps=json.dumps, write=os.write):
    def say(**said):
        line = "%s %s\n" % (secret, dumps(said))
        write(3, line.encode("utf-8", "replace"))

    return say


def short(error):
    line = error.__traceback__.tb_lineno if error.__traceback__ else 0
    back = error.__traceback__
    while back and back.tb_next:
        back, line = back.tb_next, back.tb_next.tb_lineno
    return ("line %d: %s: %s" % (line, type(error).__name__, error))[:800]


def outcome_of(test):
    try:
        test()
    except BaseException as error:
        return "failed", short(error)
    return "passed", ""


def with_pytest(path, project, say):
    """One run of pytest over the file and over one whose tests must fail."""
    import tempfile

    class Listener:
        def __init__(self):
            self.seen = {}

        def pytest_runtest_logreport(self, report):
            key = (report.nodeid, os.path.basename(report.location[0]) == os.path.basename(canary))
            if report.failed:
                self.seen[key] = ("failed", str(report.longrepr)[-800:])
            elif report.skipped and key not in self.seen:
                self.seen[key] = ("skipped", "")
            elif report.when == "call" and report.passed and key not in self.seen:
                self.seen[key] = ("passed", "")

        def pytest_collectreport(self, report):
            if report.failed:
                self.seen[(report.nodeid, False)] = ("failed", str(report.longrepr)[-800:])

    folder = tempfile.mkdtemp()
    canary = os.path.join(folder, "test_must_fail_%s.py" % os.urandom(4).hex())
    with open(canary, "w") as file:
        file.write("import pytest\ndef test_assert():\n    assert 1 == 2\n"
                   "def test_raises():\n    with pytest.raises(ValueError):\n        pass\n")
    listener = Listener()
    os.chdir(project)
    sys.path[:0] = [project, os.path.join(project, "src")]
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", project, "--continue-on-collection-errors"]
    pytest.main(options + [path, canary], plugins=[listener])
    os.unlink(canary)
    for (name, must_fail), (outcome, message) in listener.seen.items():
        if must_fail:
            say(canary=name.rpartition("::")[2], outcome=outcome)
        else:
            say(test=name, outcome=outcome, message=message)


def alone(path, project, say):
    """Plain functions named test…, and those of unittest where the file wants it."""
    with open(os.path.join(project, path), encoding="utf-8") as file:
        source = file.read()
    unittest = None
    if "unittest" in source:
        import unittest
    guarded = guard(unittest)
    os.chdir(project)
    sys.argv[:] = [path]
    sys.path[:0] = [os.path.join(project, os.path.dirname(path)), project, os.path.join(project, "src")]
    name = os.path.splitext(os.path.basename(path))[0]
    module = type(sys)(name)
    module.__file__ = os.path.join(project, path)
    sys.modules[name] = module
    wanted = compile(source, module.__file__, "exec")
    try:
        exec(wanted, module.__dict__)
    except BaseException as error:
        say(test=path, outcome="failed", message=short(error))
        return
    own = {code.co_name: code for code in wanted.co_consts if isinstance(code, type(wanted))}
    for label, function in list(module.__dict__.items()):
        if not label.startswith("test") or not isinstance(function, type(alone)):
            continue
        code = own.get(label)
        if code is not None and function.__module__ == name and function.__code__ != code:
            say(tampered="%s is not the function that %s defines" % (label, path))
        if function.__code__.co_argcount:
            say(test="%s::%s" % (path, label), outcome="skipped", message="it takes arguments, which needs pytest")
            continue
        outcome, message = outcome_of(function)
        say(test="%s::%s" % (path, label), outcome=outcome, message=message)
    for code in own:
        if code.startswith("test") and code not in module.__dict__:
            say(tampered="%s is gone from %s" % (code, path))
    must_fail = {}
    exec("def must_fail():\n    assert 1 == 2", must_fail)
    say(canary="assert", outcome=outcome_of(must_fail["must_fail"])[0])
    if unittest:
        cases(unittest, module, path, say)
    for holder, label, value in guarded:
        if getattr(holder, label, None) is not value:
            say(tampered="%s.%s was replaced" % (getattr(holder, "__name__", holder), label))


def guard(unittest):
    """What results rest on, as it was before anything of the project ran."""
    held = [(os, "write"), (json, "dumps"), (sys.modules["__main__"], "outcome_of"), (sys.modules["__main__"], "short")]
    if unittest:
        case = unittest.TestCase
        held += [(case, label) for label in dir(case) if label.startswith(("assert", "fail")) or label == "run"]
        held += [(unittest.TestResult, label) for label in ("addError", "addFailure", "addSuccess", "wasSuccessful")]
        held += [(unittest.TestSuite, "run"), (unittest.TestLoader, "loadTestsFromModule")]
    return [(holder, label, getattr(holder, label)) for holder, label in held]


def cases(unittest, module, path, say):
    class Listener(unittest.TestResult):
        def __init__(self, tell):
            super().__init__()
            self.tell, self.last = tell, None

        def startTest(self, test):
            super().startTest(test)
            self.last = ("passed", "")

        def addError(self, test, error):
            self.last = ("failed", short(error[1]))

        def addFailure(self, test, error):
            self.last = ("failed", short(error[1]))

        def addSubTest(self, test, subtest, error):
            if error is not None:
                self.last = ("failed", short(error[1]))

        def addSkip(self, test, reason):
            self.last = ("skipped", reason)

        def addUnexpectedSuccess(self, test):
            self.last = ("failed", "it was expected to fail")

        def stopTest(self, test):
            super().stopTest(test)
            self.tell("%s::%s" % (path, test.id().partition(".")[2]), *self.last)

    def told(name, outcome, message):
        say(test=name, outcome=outcome, message=message)

    unittest.defaultTestLoader.loadTestsFromModule(module).run(Listener(told))

    class MustFail(unittest.TestCase):
        def test_equal(self):
            self.assertEqual(1, 2)

        def test_true(self):
            self.assertTrue(False)

        def test_raises(self):
            with self.assertRaises(ValueError):
                pass

        def test_fail(self):
            self.fail()

    def canary(name, outcome, _):
        say(canary=name.rpartition(".")[2], outcome=outcome)

    unittest.defaultTestLoader.loadTestsFromTestCase(MustFail).run(Listener(canary))


def main(config):
    say = speaker(config["secret"])
    (with_pytest if pytest else alone)(config["file"], config["project"], say)
    say(end=True)
    # Threads that the project left must not keep this open; what it left as processes is counted.
    os._exit(0)


# Nothing of it is left where the project could look for it by name.
main(globals().pop("CONFIG"))
