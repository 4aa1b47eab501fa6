//! A job's output as it comes, and the rest of it when the job is done.

use super::report::{remainder, report};
use evalfleet_proto::control::Event;
use evalfleet_proto::evaluation::Evaluation;
use std::io::Write as _;

/// What was shown of one job.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Bytes of standard output and of standard error.
    shown: [u64; 2],
}

impl Live {
    /// Shows what happens.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Output { stderr, data, .. } => {
                self.shown[usize::from(*stderr)] += data.len() as u64;
                write(*stderr, data);
            }
            Event::Started { worker, attempt, .. } => {
                let again = self.shown != [0; 2];
                if *attempt > 1 || again {
                    eprintln!("attempt {attempt} on {worker}");
                }
                // A try that was lost with its worker says no goodbye; what it wrote does not count.
                self.shown = [0; 2];
            }
            Event::Retried { attempt, error, .. } => {
                self.shown = [0; 2];
                eprintln!("attempt {attempt} failed, and is made again: {error}");
            }
            Event::Progress { .. } | Event::Unknown => {}
        }
    }

    /// Shows the output that did not come live, and the report.
    pub(super) fn end(self, evaluation: &Evaluation) {
        let mut notes = Vec::new();
        for (index, output, name) in [(0, &evaluation.stdout, "stdout"), (1, &evaluation.stderr, "stderr")] {
            let (text, note) = remainder(output, self.shown[index], name);
            write(index == 1, text.as_bytes());
            notes.extend(note);
        }
        eprintln!("{}", report(evaluation));
        notes.iter().for_each(|note| eprintln!("  note: {note}"));
    }
}

/// Writes what a subject wrote, byte for byte.
pub(super) fn write(to_stderr: bool, bytes: &[u8]) {
    // Whoever closed the stream wants no more of it; the report and the exit code still tell.
    let _ = if to_stderr {
        std::io::stderr().write_all(bytes)
    } else {
        std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush())
    };
}
