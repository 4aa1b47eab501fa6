//! The judge's program: put together of its parts, and compiled by the very Python that will run it. Pure.
//!
//! Under emulation, to compile it takes longer than to start Python. So what an image's Python made of it once is kept. It
//! is compiled in a clean VM of its own, in which nothing of any tree has been.

use super::suite::Runner;
use evalfleet_proto::ids::{ImageRef, Sha256};
use serde::{Deserialize, Serialize};

const JUDGE: &str = include_str!("judge/judge.py");
const COMMAND: &str = include_str!("judge/command.py");
const PYTHON: &str = include_str!("judge/python.py");
const CARGO: &str = include_str!("judge/cargo.py");
const DISGUISE: &str = include_str!("judge/disguise.py");
/// What the Python runner runs in each file's own interpreter.
const PYTESTS: &str = include_str!("judge/pytests.py");

/// Compiles its standard input, and answers in hexadecimal digits: the interpreter's own number, and the code.
const COMPILE: &str = "import sys\n\
    from _frozen_importlib_external import MAGIC_NUMBER\n\
    from marshal import dumps\n\
    code = compile(sys.stdin.buffer.read(), 'judge', 'exec', optimize=2)\n\
    sys.stdout.write((MAGIC_NUMBER + dumps(code)).hex())\n";

/// How Python is started: without what it would read of its surroundings.
pub(super) const INTERPRETER: [&str; 2] = ["python3", "-EsSB"];

/// A Python that cannot have mounts of its own is started again, by a program that gives them to it.
const APART: &str = "import posix, sys\n\
    if not hasattr(posix, 'unshare') and len(sys.argv) < 2:\n    \
    posix.execve('/usr/bin/unshare', ['unshare', '-mu', *sys.orig_argv, 'apart'], posix.environ)\n";
/// What comes over standard input: the order, which has no byte 0, and the judge behind one.
const HEARD: &str = "import sys\norder, _, judge = sys.stdin.buffer.read().partition(b'\\0')\n";
/// Runs what was compiled, where it was this Python that did it.
const COMPILED: &str = "from _frozen_importlib_external import MAGIC_NUMBER\n\
    from marshal import loads\n\
    if not judge.startswith(MAGIC_NUMBER):\n    sys.exit('another Python compiled the judge')\n\
    judge = loads(judge[len(MAGIC_NUMBER):])\n";
const PLAIN: &str = "judge = compile(judge, 'judge', 'exec')\n";
const BEGIN: &str = "exec(judge, {'__name__': 'judge', 'ORDER': order})\n";

/// What has the judge compiled, reading it from its standard input.
pub(super) fn compiler() -> [&'static str; 4] {
    let [python, alone] = INTERPRETER;
    [python, alone, "-c", COMPILE]
}

/// What an image's Python made of the judge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Compiled {
    /// The image's digest.
    pub(super) image: String,
    /// In hexadecimal digits.
    pub(super) code: String,
}

/// The judge for one runner, as it comes into a VM.
#[derive(Debug, Clone)]
pub(super) struct Program {
    source: String,
    compiled: Option<(String, Vec<u8>)>,
}

impl Program {
    /// The judge that hears this runner's tests.
    pub(super) fn new(runner: Runner) -> Self {
        let runner = match runner {
            Runner::Command => COMMAND.to_owned(),
            Runner::Python => {
                // A text of JSON's is one of Python's.
                let text = serde_json::Value::from(PYTESTS);
                format!("{PYTHON}\nPYTESTS = {text}\n")
            }
            Runner::Cargo => CARGO.to_owned(),
        };
        Self { source: format!("{JUDGE}\n\n{runner}\n\n{DISGUISE}\n\nmain()\n"), compiled: None }
    }

    /// The same, compiled; as it is where that is not code in digits.
    pub(super) fn compiled(self, compiled: &Compiled) -> Self {
        let code = hex::decode(&compiled.code).ok().filter(|code| !code.is_empty());
        Self { compiled: code.map(|code| (compiled.image.clone(), code)), ..self }
    }

    /// The same, not compiled.
    pub(super) fn plain(&self) -> Self {
        Self { compiled: None, ..self.clone() }
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn is_compiled(&self) -> bool {
        self.compiled.is_some()
    }

    /// Whether it was compiled by the Python of another image than this one.
    pub(super) fn is_foreign(&self, image: Option<&str>) -> bool {
        self.compiled.as_ref().is_some_and(|(own, _)| image != Some(own))
    }

    /// What Python is told on its command line: how it comes by the judge. `apart` is for a judge that has mounts of its own.
    pub(super) fn start(&self, apart: bool) -> String {
        let judge = if self.is_compiled() { COMPILED } else { PLAIN };
        [if apart { APART } else { "" }, HEARD, judge, BEGIN].concat()
    }

    /// What it is told over standard input. An order is JSON, in which there is no byte 0.
    pub(super) fn input(&self, order: &[u8]) -> Vec<u8> {
        let judge = self.compiled.as_ref().map_or(self.source.as_bytes(), |(_, code)| code);
        [order, b"\0", judge].concat()
    }

    /// What it is kept under, compiled.
    pub(super) fn key(&self, image: &ImageRef) -> Sha256 {
        Sha256::of(format!("{image}\0{COMPILE}\0{}", self.source).as_bytes())
    }
}

/// The hash of the judge itself: another judge may see otherwise.
pub(super) fn judge_digest() -> Sha256 {
    Sha256::of([JUDGE, COMMAND, PYTHON, CARGO, DISGUISE, PYTESTS].join("\0").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// This machine's Python, with `input`.
    fn python(arguments: &[&str], input: &[u8]) -> std::process::Output {
        let [python, alone] = INTERPRETER;
        let mut python = Command::new(python)
            .arg(alone)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        python.stdin.take().unwrap().write_all(input).unwrap();
        python.wait_with_output().unwrap()
    }

    #[test]
    fn what_was_compiled_runs_as_its_source_does() {
        for runner in [Runner::Command, Runner::Python, Runner::Cargo] {
            // All but its start, which wants a VM to itself; then what shows that every part of it is there.
            let mut program = Program::new(runner);
            let rest = program.source.strip_suffix("main()\n").expect("it starts at its end");
            program.source = format!(
                "{rest}print(as_json([run_tests.__name__, disguise.__name__, from_json(ORDER.decode())]))\n"
            );
            let output = python(&compiler()[2..], program.source().as_bytes());
            assert!(output.status.success());
            let code = String::from_utf8(output.stdout).unwrap();
            let compiled = program.clone().compiled(&Compiled { image: "sha256:1".to_owned(), code });
            assert!(compiled.is_compiled());
            // Not everybody may have mounts of their own.
            let may =
                Command::new("unshare").args(["-mu", "true"]).status().is_ok_and(|ended| ended.success());
            for (program, apart) in [(&program, false), (&compiled, false), (&compiled, may)] {
                let ran = python(&["-c", &program.start(apart)], &program.input(b"{\"a\": [true, 1.5]}"));
                let said = String::from_utf8(ran.stdout).unwrap();
                assert_eq!(said, "[\"run_tests\", \"disguise\", {\"a\": [true, 1.5]}]\n");
            }
        }
    }

    #[test]
    fn what_another_python_compiled_is_not_run() {
        let compiled = Compiled { image: "sha256:1".to_owned(), code: "00ff00ff".repeat(9) };
        let program = Program::new(Runner::Command).compiled(&compiled);
        let ran = python(&["-c", &program.start(false)], &program.input(b"{}"));
        assert_eq!(ran.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&ran.stderr).contains("another Python compiled the judge"));
    }

    #[test]
    fn what_another_image_compiled_is_known_and_what_is_no_code_is_not_taken() {
        let plain = Program::new(Runner::Command);
        assert!(!plain.is_foreign(Some("sha256:2")));
        let of = |code: &str| {
            plain.clone().compiled(&Compiled { image: "sha256:1".to_owned(), code: code.to_owned() })
        };
        let compiled = of("00ff");
        assert_eq!(compiled.input(b"{}"), b"{}\x00\x00\xff");
        assert!(compiled.is_foreign(Some("sha256:2")) && compiled.is_foreign(None));
        assert!(!compiled.is_foreign(Some("sha256:1")) && !compiled.plain().is_compiled());
        assert!(!of("").is_compiled() && !of("no digits").is_compiled());
    }
}
