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


class EdEditor(ToolTest):
    def test_what_ed_refuses_changes_nothing(self):
        path = self.write("a.txt", "one\ntwo\n")
        for commands, said in (
            (["1d"], "not written"),
            (["9d"], "Invalid address"),
            (["1s/x/y/", "w"], "No match"),
            (["1d", "!touch escaped", "w"], "restricted"),
            (["1d", "w ../../secret.txt"], "restricted"),
            (["e /etc/hostname"], "restricted"),
        ):
            self.assertIn(said, self.fail_call("ed_editor", file="a.txt", commands=commands))
            self.assertEqual(path.read_text(), "one\ntwo\n")
        self.assertEqual((self.outside / "secret.txt").read_text(), "secret\n")
        self.assertEqual(sorted(os.listdir(self.workspace)), ["a.txt"])

    def test_content_begins_a_new_file_and_replaces_none(self):
        self.write("a.txt", "one\n")
        self.assertIn("exists", self.fail_call("ed_editor", file="a.txt", content="x", commands=["w"]))
        self.assertIn("ed stopped", self.fail_call("ed_editor", file="b.txt", content="x\n", commands=["9p"]))
        self.assertFalse((self.workspace / "b.txt").exists())
        self.assertIn("`file` or `content`", self.fail_call("ed_editor", commands=["w"]))
        self.assertIn("list of strings", self.fail_call("ed_editor", content="", commands=[1]))
        answer = self.call("ed_editor", content="b\na\n", commands=["1m$", "w"])
        self.assertEqual(answer["content"], "a\nb\n")


class RustSource(ToolTest):
    def analyze(self, code):
        return self.call("analyze_rust_code", code=code)

    def test_items_with_what_they_state(self):
        found = self.analyze(
            "#[derive(Debug)]\npub(crate) struct Pair<T: Into<u8>>(pub T, u8);\n"
            "pub struct Named {\n    #[serde(default)]\n    pub map: HashMap<u8, Vec<u8>>,\n    r#type: [u8; 2],\n}\n"
            "enum Kind { A = 1, B { x: u8 }, C(u8) }\n"
            "impl<T> fmt::Debug for Pair<T>\nwhere\n    T: Copy,\n{\n"
            "    async unsafe fn run(&self, f: impl Fn(u8) -> u8, s: &'static str) -> Result<u8, ()> where T: Copy { todo!() }\n}\n"
        )
        self.assertEqual(found["summary"], {"functions": 1, "structs": 2, "enums": 1, "traits": 0, "impls": 1, "modules": 0})
        pair, named = found["structs"]
        self.assertEqual((pair["name"], pair["visibility"], pair["line"]), ("Pair", "pub(crate)", 2))
        self.assertEqual([field["type"] for field in pair["fields"]], ["T", "u8"])
        self.assertEqual([field["name"] for field in named["fields"]], ["map", "r#type"])
        self.assertEqual(named["fields"][0]["type"], "HashMap<u8, Vec<u8>>")
        self.assertEqual(found["enums"][0]["variants"], ["A", "B", "C"])
        function = found["functions"][0]
        self.assertEqual(function["parameters"], ["&self", "f: impl Fn(u8) -> u8", "s: &'static str"])
        self.assertEqual((function["returns"], function["parent"]), ("Result<u8, ()>", "impl fmt::Debug for Pair<T>"))
        self.assertEqual((function["async"], function["unsafe"]), (True, True))

    def test_what_looks_like_code_and_is_none(self):
        for code in (
            "// fn a() {}",
            "/* fn a() {} /* fn b() {} */ fn c() {} */",
            'const A: &str = "fn a() {}";',
            'const A: &str = "\\" fn a() {}";',
            'const A: &str = r#"fn a() {} " fn b() {}"#;',
            "type A = fn(u8) -> u8;",
            "let a: fn() = b;",
        ):
            self.assertEqual(self.analyze(code)["functions"], [], code)
        self.assertEqual(len(self.analyze("const A: char = '\"'; fn a() {} const B: char = '\"';")["functions"]), 1)
        self.assertEqual(len(self.analyze("fn a<'a>(x: &'a str) {} fn b() {}")["functions"]), 2)

    def test_nothing_makes_it_fail(self):
        for code in ("fn", "fn a", "fn a(", "impl<", "struct A {", "pub(", "/*", '"', "r#\"", "'", "{{{{", "}}}}", "fn a<((("):
            self.analyze(code)

    def test_a_name_is_found_in_its_files(self):
        self.write("a.rs", "mod m {\n    pub fn f() {}\n}\nfn f(x: u8) {}\n")
        self.write("target/b.rs", "fn f() {}\n")
        found = self.call("find_function", name="f")
        self.assertEqual([(at["line"], at["parent"]) for at in found["results"]], [(2, "mod m"), (4, None)])
        self.assertIn("outside", self.fail_call("find_function", name="f", path=".."))


class Project(ToolTest):
    def test_a_map_to_a_depth(self):
        self.write("a/b/c/d.txt", "x")
        self.write(".hidden/e", "x")
        self.write("Cargo.toml", '[package]\nname = "x"\n[dependencies]\nserde = "1"\n[dev-dependencies.a-b]\nversion = "1"\n')
        found = self.call("project_map", max_depth=2)
        self.assertEqual([entry["name"] for entry in found["structure"]], ["Cargo.toml", "a"])
        self.assertEqual(found["structure"][1]["entries"], [{"name": "b", "entries": None}])
        self.assertEqual(found["projects"][0]["dependencies"], ["a-b", "serde"])
        everything = self.call("project_map", max_depth=9, include_hidden=True)
        self.assertIn(".hidden", [entry["name"] for entry in everything["structure"]])
        self.assertIn("from 1 to 32", self.fail_call("project_map", max_depth=0))

    def test_what_a_file_is_for(self):
        self.write("a.py", '"""Does a.\n\nMore."""\n\n\ndef f():\n    pass\n\n\ndef _g():\n    pass\n')
        self.write("b.rs", "//! Does\n//! b.\n//!\n//! More.\n\npub fn f() {}\nfn g() {}\n")
        modules = self.call("explain_architecture", detail_level="high")["modules"]
        self.assertEqual([module["purpose"] for module in modules], ["Does a.", "Does b."])
        self.assertEqual([[item["name"] for item in module["offers"]] for module in modules], [["f"], ["f"]])
        self.assertIn("must be one of", self.fail_call("explain_architecture", detail_level="all"))

    def test_capabilities_are_those_that_are_there(self):
        found = self.call("get_current_capabilities")
        names = [tool["name"] for tools in found["capabilities"].values() for tool in tools]
        self.assertEqual(sorted(names), sorted(path.parent.name for path in TOOLS.glob("*/tool.toml")))
        self.assertTrue(all(tool["description"] for tools in found["capabilities"].values() for tool in tools))


if __name__ == "__main__":
    unittest.main()
