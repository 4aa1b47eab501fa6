"""What the tools around cargo share: a crate of the workspace, common options, a run without a network."""

import programs
import toolkit

# Compiling takes long in an emulated machine.
TIMEOUT_SECONDS_DEFAULT = 240


class Cargo:
    """One run of cargo, put together from a call's arguments."""

    def __init__(self, arguments, command):
        self._arguments = arguments
        self._argv = ["cargo", command, "--offline"]
        self._tail = []
        self._path = arguments.text("path", ".")
        if arguments.flag("verbose", False):
            self._argv.append("--verbose")

    def flag(self, name, *options):
        """Adds `options` where the argument `name` is true."""
        if self._arguments.flag(name, False):
            self._argv.extend(options)
        return self

    def features(self):
        """The argument `features`: a list of names."""
        features = self._arguments.texts("features", [])
        if features:
            # In one word, so that none can pass for an option.
            self._argv.append(f"--features={','.join(features)}")
        return self

    def target(self):
        """The argument `target`: a platform."""
        target = self._arguments.text("target", "")
        if target:
            self._argv.append(f"--target={target}")
        return self

    def after(self, *words):
        """Words for the program that cargo runs."""
        self._tail.extend(words)
        return self

    def run(self):
        """Runs it; the answer of the tool."""
        timeout = programs.timeout_of(self._arguments, TIMEOUT_SECONDS_DEFAULT)
        self._arguments.finish()
        folder = programs.folder(self._path)
        argv = self._argv + (["--", *self._tail] if self._tail else [])
        if any("\0" in word for word in argv):
            raise toolkit.ToolError("an argument cannot contain a NUL byte")
        result = programs.run(argv, folder, timeout)
        programs.refuse_failure(result, f"cargo {argv[1]}", timeout)
        return result
