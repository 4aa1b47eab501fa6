//! Runs the host's programs: their output line by line, and errors that say what the program said.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

/// Lines of a failed program's output that its error carries.
const TAIL_LINES: usize = 15;

/// Where programs are looked for besides `PATH`: an ordinary user's often lacks these.
const SYSTEM_FOLDERS: &str = "/usr/sbin:/sbin";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{program} could not be run: {source}")]
    Run { program: String, source: io::Error },
    #[error("{program} ended with {status}; it said:\n{tail}")]
    Failed { program: String, status: ExitStatus, tail: String },
    #[error("{program} ran out of disk space ({line}): free some space and build again")]
    DiskFull { program: String, line: String },
}

/// A command whose environment is the caller's, in the C locale, without input.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path()).env("LC_ALL", "C").env_remove("LANGUAGE").stdin(Stdio::null());
    command
}

/// The full path of `program`, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    search_path().split(':').map(|folder| PathBuf::from(folder).join(program)).find(|path| path.is_file())
}

fn search_path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    if own.is_empty() { format!("/usr/bin:/bin:{SYSTEM_FOLDERS}") } else { format!("{own}:{SYSTEM_FOLDERS}") }
}

/// The program that an error names: what is run, not what runs it.
fn name(command: &Command) -> String {
    let bound = command.get_args().any(|argument| argument == "mmdebstrap");
    if bound { "mmdebstrap".to_owned() } else { command.get_program().to_string_lossy().into_owned() }
}

/// Runs `command` to its end, giving every line that it writes, to either stream, to `on_line`.
pub(crate) fn run(mut command: Command, mut on_line: impl FnMut(&str)) -> Result<(), Error> {
    let program = name(&command);
    let cannot_run = |source| Error::Run { program: program.clone(), source };
    let (reader, writer) = io::pipe().map_err(cannot_run)?;
    command.stdout(writer.try_clone().map_err(cannot_run)?).stderr(writer);
    let mut child = command.spawn().map_err(cannot_run)?;
    // The command holds the pipe's writing end too, and the reader would wait for it for ever.
    drop(command);
    let (mut tail, mut full) = (VecDeque::new(), None);
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line.map_err(cannot_run)?).trim_end().to_owned();
        on_line(&line);
        if line.contains("No space left on device") {
            full.get_or_insert(line.clone());
        }
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    let status = child.wait().map_err(cannot_run)?;
    match full {
        _ if status.success() => Ok(()),
        Some(line) => Err(Error::DiskFull { program, line }),
        None => Err(Error::Failed { program, status, tail: tail.make_contiguous().join("\n") }),
    }
}

/// Runs `command` with `input` on its standard input and returns what it wrote to its standard output.
pub(crate) fn filter(mut command: Command, input: &[u8]) -> Result<Vec<u8>, Error> {
    let program = name(&command);
    let cannot_run = |source| Error::Run { program: program.clone(), source };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(cannot_run)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A thread of its own: both pipes are of bounded size, and the program fills one while it reads the other.
        scope.spawn(move || stdin.map(|mut stdin| io::Write::write_all(&mut stdin, input)));
        child.wait_with_output()
    })
    .map_err(cannot_run)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let tail = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    Err(Error::Failed { program, status: output.status, tail })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = command("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn both_streams_arrive_and_a_failure_carries_the_last_lines() {
        let mut lines = Vec::new();
        run(shell("echo out; echo err >&2"), |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["out", "err"]);
        let error = run(shell("seq 100; exit 3"), |_| ()).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("\n86\n") && !error.contains("\n85\n"));
    }

    #[test]
    fn a_full_disk_is_said_as_such_only_when_the_program_failed() {
        let script = "echo 'write: No space left on device'";
        assert!(run(shell(script), |_| ()).is_ok());
        assert!(matches!(run(shell(&format!("{script}; false")), |_| ()), Err(Error::DiskFull { .. })));
    }

    #[test]
    fn a_filter_takes_more_than_a_pipe_holds() {
        let input = vec![7; 1 << 20];
        assert_eq!(filter(shell("cat"), &input).unwrap(), input);
        assert!(matches!(filter(command("no-such-program"), b""), Err(Error::Run { .. })));
    }
}
