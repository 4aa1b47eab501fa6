//! The arguments of one job and of many, and the job that they describe.

use clap::Args;
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::{BatchId, ImageRef, Lane, ToolName};
use evalfleet_proto::job::{Limits, Network};
use evalfleet_proto::submission::Submission;
use evalfleet_proto::units::{ByteSize, parse_duration};
use std::path::PathBuf;
use std::time::Duration;

/// `run`
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// What the job may use, and more.
    #[command(flatten)]
    pub job: JobArgs,
    /// What it reads on standard input; `-` is ours.
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<PathBuf>,
    /// A variable of its environment.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// Where it starts in the guest.
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// The guest's user that runs it.
    #[arg(long)]
    pub user: Option<String>,
    /// The program and its arguments, without a shell around them.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGV")]
    pub argv: Vec<String>,
}

impl RunArgs {
    /// The job that the arguments describe, without its files and its standard input.
    pub fn submission(&self) -> Submission {
        let mut submission = Submission::command(self.argv.clone());
        submission.env = self.env.iter().cloned().collect();
        submission.cwd.clone_from(&self.cwd);
        submission.user.clone_from(&self.user);
        self.job.apply(&mut submission);
        submission
    }
}

/// `call`
#[derive(Debug, Clone, Args)]
pub struct CallArgs {
    /// What the job may use, and more.
    #[command(flatten)]
    pub job: JobArgs,
    /// The tool.
    pub tool: ToolName,
    /// Its arguments as JSON; `-` reads them from standard input.
    #[arg(default_value = "{}", value_name = "JSON")]
    pub args: String,
    /// Call it though it is in quarantine.
    #[arg(long)]
    pub force: bool,
}

/// `submit`
#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    /// A file with one job a line; `-` is standard input.
    #[arg(value_name = "FILE", required_unless_present = "named", conflicts_with = "named")]
    pub given: Option<PathBuf>,
    /// The same, named by a flag.
    #[arg(long = "file", value_name = "FILE")]
    pub named: Option<PathBuf>,
    /// The batch they belong to, where they name none.
    #[arg(long)]
    pub batch: Option<BatchId>,
}

impl SubmitArgs {
    /// The file.
    pub fn file(&self) -> &std::path::Path {
        self.given.as_deref().or(self.named.as_deref()).unwrap_or(std::path::Path::new("-"))
    }
}

/// What every command that submits takes.
#[derive(Debug, Clone, Args)]
pub struct JobArgs {
    /// Time on the clock.
    #[arg(long, value_parser = parse_duration, help_heading = "Limits")]
    pub wall: Option<Duration>,
    /// Time on the processors.
    #[arg(long, value_parser = parse_duration, help_heading = "Limits")]
    pub cpu: Option<Duration>,
    /// Memory of all its processes together.
    #[arg(long, help_heading = "Limits")]
    pub memory: Option<ByteSize>,
    /// Processes and threads at one moment.
    #[arg(long, help_heading = "Limits")]
    pub processes: Option<u32>,
    /// Growth of the disk.
    #[arg(long, help_heading = "Limits")]
    pub disk: Option<ByteSize>,
    /// Standard output and standard error together.
    #[arg(long, help_heading = "Limits")]
    pub output: Option<ByteSize>,
    /// What it may reach over TCP: none, or allow=HOST[:PORT],… (names, *.names or addresses), as far as
    /// the setting worker.network_allow covers it.
    #[arg(long, value_name = "NETWORK", default_value = "none", help_heading = "Limits")]
    pub network: Network,
    /// The image: NAME or NAME@sha256:DIGEST.
    #[arg(long)]
    pub image: Option<ImageRef>,
    /// The image's scenario.
    #[arg(long)]
    pub scenario: Option<String>,
    /// 0 to 9, larger first.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: u8,
    /// Overtake the others: the lane urgent.
    #[arg(long, conflicts_with = "lane")]
    pub urgent: bool,
    /// The lane, one of broker.lanes: jobs with a need of their own may have workers of their own
    /// (worker.lanes).
    #[arg(long)]
    pub lane: Option<Lane>,
    /// Not to be started after this moment.
    #[arg(long, value_name = "TIME")]
    pub deadline: Option<Timestamp>,
    /// What it belongs to: suite, case, run, model, …
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub label: Vec<(String, String)>,
    /// The same key, the same job.
    #[arg(long, value_name = "IDEMPOTENCY_KEY")]
    pub key: Option<String>,
    /// The batch it belongs to.
    #[arg(long)]
    pub batch: Option<BatchId>,
    /// A glob of paths that it is meant to change.
    #[arg(long, value_name = "GLOB")]
    pub expect: Vec<String>,
    /// A file to lay into the VM.
    #[arg(long, value_name = "LOCAL:GUEST", value_parser = file_pair)]
    pub file: Vec<(PathBuf, String)>,
    /// A guest file to fetch after the run, into the current folder or to LOCAL.
    #[arg(long, value_name = "GUEST[:LOCAL]", value_parser = out_pair)]
    pub out: Vec<(String, Option<PathBuf>)>,
}

impl JobArgs {
    /// Puts what was given into `submission`. Files are laid in later: they may be large, or not text.
    pub fn apply(&self, submission: &mut Submission) {
        submission.limits = self.limits();
        submission.network.clone_from(&self.network);
        submission.image.clone_from(&self.image);
        submission.scenario.clone_from(&self.scenario);
        submission.priority = self.priority;
        submission.urgent = self.urgent;
        submission.lane.clone_from(&self.lane);
        submission.deadline = self.deadline;
        submission.labels = self.label.iter().cloned().collect();
        submission.key.clone_from(&self.key);
        submission.batch.clone_from(&self.batch);
        submission.expected_effects.clone_from(&self.expect);
        submission.out = self.out.iter().map(|(guest, _)| guest.clone()).collect();
    }

    fn limits(&self) -> Limits {
        let default = Limits::default();
        let wall = self.wall.unwrap_or(default.wall);
        Limits {
            wall,
            // Whoever grants more time on the clock and says nothing of the processors means both.
            cpu: self.cpu.unwrap_or_else(|| default.cpu.max(wall)),
            memory: self.memory.unwrap_or(default.memory),
            processes: self.processes.unwrap_or(default.processes),
            disk: self.disk.unwrap_or(default.disk),
            output: self.output.unwrap_or(default.output),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

fn file_pair(text: &str) -> Result<(PathBuf, String), String> {
    match text.rsplit_once(':') {
        Some((local, guest)) if !local.is_empty() && guest.starts_with('/') => {
            Ok((PathBuf::from(local), guest.to_owned()))
        }
        _ => {
            Err("must be LOCAL:GUEST with an absolute guest path, such as ./a.py:/workspace/a.py".to_owned())
        }
    }
}

fn out_pair(text: &str) -> Result<(String, Option<PathBuf>), String> {
    let (guest, local) = match text.split_once(':') {
        Some((guest, local)) if !local.is_empty() => (guest, Some(PathBuf::from(local))),
        Some(_) => return Err("must be GUEST or GUEST:LOCAL".to_owned()),
        None => (text, None),
    };
    if guest.starts_with('/') {
        Ok((guest.to_owned(), local))
    } else {
        Err("must begin with an absolute guest path, such as /workspace/a".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_outputs_name_both_sides() {
        assert_eq!(file_pair("a:b:/w/a"), Ok(("a:b".into(), "/w/a".to_owned())));
        assert!(file_pair("a").is_err() && file_pair("a:w").is_err());
        assert_eq!(out_pair("/w/a"), Ok(("/w/a".to_owned(), None)));
        assert_eq!(out_pair("/w/a:b"), Ok(("/w/a".to_owned(), Some("b".into()))));
        assert!(out_pair("a").is_err());
    }
}
