//! A job's output as it comes, what it uses meanwhile, and the rest of it when the job is done.

use super::console;
use super::report::{remainder, report};
use evalfleet_proto::control::Event;
use evalfleet_proto::evaluation::Evaluation;
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use std::io::Write as _;
use std::time::Duration;

/// What was shown of one job.
#[derive(Debug)]
pub(super) struct Live {
    /// Bytes of standard output and of standard error.
    shown: [u64; 2],
    /// What it uses: on standard error, and only on a terminal.
    usage: ProgressBar,
    /// Whether the cursor stands where a line begins. Elsewhere a line of ours would wipe out the subject's.
    at_line_start: bool,
}

impl Default for Live {
    fn default() -> Self {
        let style =
            ProgressStyle::with_template("{msg:.dim}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        Self { shown: [0; 2], usage: ProgressBar::no_length().with_style(style), at_line_start: true }
    }
}

impl Live {
    /// Shows what happens.
    pub(super) fn event(&mut self, event: &Event) {
        if let Event::Progress { elapsed, cpu, memory_bytes, disk_written_bytes, .. } = event {
            if self.at_line_start {
                self.usage.reset();
                self.usage.set_message(usage(*elapsed, *cpu, *memory_bytes, *disk_written_bytes));
            }
            return;
        }
        self.usage.finish_and_clear();
        match event {
            Event::Output { stderr, data, .. } => {
                self.at_line_start = data.last().map_or(self.at_line_start, |byte| *byte == b'\n');
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
        self.usage.finish_and_clear();
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

/// What a job uses, in one line.
pub(super) fn usage(elapsed: Duration, cpu: Duration, memory_bytes: u64, disk_written_bytes: u64) -> String {
    format!(
        "running {:.0} s: processor {:.1} s, memory {}, written {}",
        elapsed.as_secs_f64(),
        cpu.as_secs_f64(),
        BinaryBytes(memory_bytes),
        BinaryBytes(disk_written_bytes),
    )
}

/// Writes what a subject wrote, byte for byte; in the REPL without what its terminal would obey.
pub(super) fn write(to_stderr: bool, bytes: &[u8]) {
    let bytes = &console::written(bytes);
    // Whoever closed the stream wants no more of it; the report and the exit code still tell.
    let _ = if to_stderr {
        std::io::stderr().write_all(bytes)
    } else {
        std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush())
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_uses_is_told_in_one_line() {
        let line = usage(Duration::from_millis(12_300), Duration::from_millis(9_870), 34 << 20, 0);
        assert_eq!(line, "running 12 s: processor 9.9 s, memory 34.00 MiB, written 0 B");
    }
}
