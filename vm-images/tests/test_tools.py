"""Unit tests of the image's tools, run on the host's Python in a temporary workspace."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

TOOLS = pathlib.Path(__file__).resolve().parent.parent / "tools"


class ToolTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.outside = pathlib.Path(temporary.name)
        self.workspace = self.outside / "workspace"
        self.workspace.mkdir()
        (self.outside / "secret.txt").write_text("secret\n")

    def raw(self, tool, text):
        environment = {**os.environ, "EVALFLEET_WORKSPACE": str(self.workspace)}
        process = subprocess.run(
            [sys.executable, "-EsSB", TOOLS / tool / "main.py"],
            input=text, capture_output=True, text=True, env=environment, cwd="/", timeout=60,
        )
        self.assertEqual(process.stderr, "")
        return process.returncode, json.loads(process.stdout)

    def call(self, tool, **args):
        status, answer = self.raw(tool, json.dumps(args))
        self.assertEqual(status, 0, answer)
        return answer

    def fail_call(self, tool, **args):
        status, answer = self.raw(tool, json.dumps(args))
        self.assertEqual(status, 1, answer)
        return answer["error"]

    def write(self, name, content):
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


class Arguments(ToolTest):
    def test_what_is_not_an_object_of_the_right_types_is_refused(self):
        for text in ("", "{", "[]", "3", "null"):
            status, answer = self.raw("word_count", text)
            self.assertEqual(status, 1, text)
            self.assertIn("arguments", answer["error"])
        self.assertIn("`text` is required", self.fail_call("word_count"))
        self.assertIn("`text` must be a string", self.fail_call("word_count", text=3))
        self.assertIn("unknown argument: `txet`", self.fail_call("word_count", text="", txet=""))
        self.assertIn("true or false", self.fail_call("list_files", recursive=1))

    def test_deep_nesting_is_an_error_and_no_crash(self):
        status, answer = self.raw("word_count", "[" * 200_000)
        self.assertEqual((status, "error" in answer), (1, True))

    def test_a_lone_surrogate_is_counted_and_not_written(self):
        self.assertEqual(self.raw("word_count", '{"text": "\\ud800"}')[1]["characters"], 1)
        self.assertIn("not valid Unicode", self.raw("write_file", '{"path": "a", "content": "\\ud800"}')[1]["error"])
        self.assertFalse((self.workspace / "a").exists())


class Paths(ToolTest):
    def test_no_way_out_of_the_workspace(self):
        (self.workspace / "link").symlink_to(self.outside)
        (self.workspace / "secret").symlink_to(self.outside / "secret.txt")
        sibling = self.outside / "workspace-two"
        sibling.mkdir()
        for path in ("..", "../secret.txt", "/etc/passwd", "link/secret.txt", "secret", "a/../../secret.txt",
                     "../workspace-two/x"):
            with self.subTest(path=path):
                self.assertIn("outside", self.fail_call("read_file", path=path))
                self.assertIn("outside", self.fail_call("write_file", path=path, content=""))
                self.assertIn("outside", self.fail_call("list_files", path=path))
                self.assertIn("outside", self.fail_call("search_code", path=path, pattern="s"))
                self.assertIn("outside", self.fail_call("run_command", cwd=path, command="true"))
        self.assertEqual((self.outside / "secret.txt").read_text(), "secret\n")
        self.assertIn("NUL", self.fail_call("read_file", path="a\0b"))

    def test_an_absolute_path_within_is_fine(self):
        self.write("a.txt", "a")
        self.assertEqual(self.call("read_file", path=str(self.workspace / "a.txt"))["content"], "a")


class Files(ToolTest):
    def test_read(self):
        self.write("a.txt", "one\r\ntwo")
        self.assertEqual(
            self.call("read_file", path="a.txt"),
            {"path": "a.txt", "content": "one\r\ntwo", "size": 8, "lines": 2},
        )
        self.write("binary", b"\xff\xfe")
        self.assertIn("not UTF-8", self.fail_call("read_file", path="binary"))
        self.assertIn("directory", self.fail_call("read_file", path="."))
        self.write("big", b"x" * (1024 * 1024 + 1))
        self.assertIn("larger than", self.fail_call("read_file", path="big"))
        os.mkfifo(self.workspace / "pipe")
        self.assertIn("regular file", self.fail_call("read_file", path="pipe"))

    def test_write(self):
        answer = self.call("write_file", path="d/é.txt", content="é\r\n")
        self.assertEqual(answer, {"path": "d/é.txt", "bytes_written": 4, "created": True})
        self.assertEqual((self.workspace / "d/é.txt").read_bytes(), "é\r\n".encode())
        self.assertFalse(self.call("write_file", path="d/é.txt", content="")["created"])
        self.assertIn("create_dirs", self.fail_call("write_file", path="x/y", content="", create_dirs=False))
        self.assertIn("directory", self.fail_call("write_file", path="d", content=""))

    def test_list(self):
        self.write("b.py", "")
        self.write("src/a.py", "12")
        self.write("src/deep/c.py", "")
        (self.workspace / "loop").symlink_to(self.workspace)
        names = lambda **args: [file["name"] for file in self.call("list_files", **args)["files"]]
        self.assertEqual(names(), ["b.py", "loop", "src"])
        self.assertEqual(names(path="src"), ["src/a.py", "src/deep"])
        self.assertEqual(names(recursive=True, pattern="*.py"), ["b.py", "src/a.py", "src/deep/c.py"])
        self.assertEqual(names(recursive=True, pattern="src/*.py"), ["src/a.py"])
        self.assertEqual(names(recursive=True, pattern="src/**/*.py"), ["src/a.py", "src/deep/c.py"])
        self.assertEqual(names(recursive=True, pattern="[!b].p?"), ["src/a.py", "src/deep/c.py"])
        self.assertEqual(names(path="src", recursive=True, pattern="deep/*"), ["src/deep/c.py"])
        kinds = {file["name"]: file["type"] for file in self.call("list_files")["files"]}
        self.assertEqual(kinds, {"b.py": "file", "loop": "symlink", "src": "directory"})
        self.assertIn("No such file", self.fail_call("list_files", path="absent"))


class Edit(ToolTest):
    def edited(self, content, *operations):
        path = self.write("a.txt", content)
        answer = self.call("edit_file", path="a.txt", operations=list(operations))
        self.assertEqual(answer["changes_applied"], len(operations))
        self.assertEqual(answer["new_size"], path.stat().st_size)
        return path.read_bytes().decode()

    def test_operations(self):
        replace = lambda search, new: {"operation": "replace", "search": search, "replace": new}
        insert = lambda line, content: {"operation": "insert", "line": line, "content": content}
        delete = lambda start, end: {"operation": "delete", "start_line": start, "end_line": end}
        self.assertEqual(self.edited("a b a\n", replace("a", "c")), "c b c\n")
        self.assertEqual(self.edited("a\nb\n", replace("a\nb", "c")), "c\n")
        self.assertEqual(self.edited("a\nb\n", insert(2, "x")), "a\nx\nb\n")
        self.assertEqual(self.edited("a\nb", insert(3, "x\n")), "a\nb\nx\n")
        self.assertEqual(self.edited("", insert(1, "x")), "x\n")
        self.assertEqual(self.edited("a\nb\nc\n", delete(1, 2)), "c\n")
        self.assertEqual(self.edited("a\nb\nc\n", {"operation": "delete", "start_line": 2}), "a\nc\n")
        self.assertEqual(self.edited("a\r\nb\r\n", insert(2.0, "x"), delete(3, 3)), "a\r\nx\n")

    def test_all_or_none(self):
        path = self.write("a.txt", "a\n")
        good = {"operation": "replace", "search": "a", "replace": "b"}
        for bad, message in (
            ({"operation": "replace", "search": "zz", "replace": ""}, "operation 2: `search` was not found"),
            ({"operation": "replace", "search": "", "replace": ""}, "is empty"),
            ({"operation": "insert", "line": 3, "content": ""}, "has 1 lines"),
            ({"operation": "insert", "line": 0, "content": ""}, "has 1 lines"),
            ({"operation": "delete", "start_line": 2, "end_line": 1}, "are not in the file"),
            ({"operation": "swap"}, "none of replace, insert, delete"),
            ({"operation": "delete", "start_line": True}, "must be an integer"),
            ({"operation": "delete", "start_line": 1, "line": 1}, "unknown argument: `line`"),
        ):
            with self.subTest(bad=bad):
                self.assertIn(message, self.fail_call("edit_file", path="a.txt", operations=[good, bad]))
                self.assertEqual(path.read_text(), "a\n")
        self.assertIn("empty", self.fail_call("edit_file", path="a.txt", operations=[]))


class Search(ToolTest):
    def test_search(self):
        self.write("a.py", "def one():\n    return 1\n")
        self.write("src/b.rs", "fn one() {}\n")
        self.write(".git/config", "one\n")
        self.write("binary", b"one\0")
        answer = self.call("search_code", pattern=r"\bone\b")
        self.assertEqual(
            answer["matches"],
            [
                {"path": "a.py", "line": 1, "text": "def one():"},
                {"path": "src/b.rs", "line": 1, "text": "fn one() {}"},
            ],
        )
        self.assertEqual(self.call("search_code", pattern="ONE", ignore_case=True, glob="*.rs")["match_count"], 1)
        self.assertEqual(self.call("search_code", pattern="one", path="a.py")["files_searched"], 1)
        limited = self.call("search_code", pattern="one", max_results=1)
        self.assertEqual((limited["match_count"], limited["truncated"]), (1, True))
        self.assertIn("regular expression", self.fail_call("search_code", pattern="["))
        self.assertIn("does not exist", self.fail_call("search_code", pattern="a", path="absent"))


class Command(ToolTest):
    def test_output_and_status(self):
        self.write("d/x", "")
        answer = self.call("run_command", command="ls; echo err >&2", cwd="d")
        self.assertEqual((answer["stdout"], answer["stderr"], answer["exit_code"]), ("x\n", "err\n", 0))
        status, answer = self.raw("run_command", json.dumps({"command": "echo out; exit 3"}))
        self.assertEqual((status, answer["exit_code"], answer["stdout"]), (1, 3, "out\n"))
        self.assertIn("signal 9", self.fail_call("run_command", command="kill -9 $$"))

    def test_bounded_output(self):
        answer = self.call("run_command", command="head -c 3000000 /dev/zero")
        self.assertEqual((len(answer["stdout"]), answer["stdout_truncated"]), (256 * 1024, True))
        self.assertFalse(answer["stderr_truncated"])

    def test_a_late_command_is_ended_with_its_children(self):
        begun = time.monotonic()
        error = self.fail_call("run_command", command="(sleep 5; touch late) & echo $!; sleep 30", timeout=0.5)
        self.assertIn("did not end within 0.5 s", error)
        self.assertLess(time.monotonic() - begun, 4)
        self.assertIn("timeout", self.fail_call("run_command", command="true", timeout=0))


if __name__ == "__main__":
    unittest.main()
