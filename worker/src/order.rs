//! What a job means in the VM: its program, its limits, what it may touch. Pure.

use crate::vm::Meter;
use evalfleet_images::tool::ToolSpec;
use evalfleet_proto::guest::Run;
use evalfleet_proto::job::{Content, Job, Task, workspace};
use evalfleet_proto::units::ByteSize;

/// Memory that the guest's kernel and the agent need besides the job.
const GUEST_OWN: ByteSize = ByteSize::mib(128);

/// Everything that is needed to run a job in a VM that stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The program.
    pub run: Run,
    /// What it reads.
    pub stdin: Option<Content>,
    /// What it is called in the report.
    pub name: String,
    /// Whether its answer is JSON on standard output.
    pub answers_json: bool,
    /// Globs of what it may change.
    pub expected_effects: Vec<String>,
}

/// Why a job cannot be run anywhere: the request's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The image has no such tool.
    #[error("the image {image} has no tool {tool}; it has {known}")]
    UnknownTool {
        /// The tool.
        tool: String,
        /// The image.
        image: String,
        /// The tools it has.
        known: String,
    },
    /// A kind that this worker does not know.
    #[error("this worker knows no jobs of that kind: update it")]
    UnknownKind,
    /// It may use more than a VM has.
    #[error("limit memory is {asked}, and a VM of {memory} leaves a job {left}")]
    Memory {
        /// What was asked.
        asked: ByteSize,
        /// What a VM has.
        memory: ByteSize,
        /// What that leaves.
        left: ByteSize,
    },
}

/// Works out how to run `job` with the tools of its image, in a VM with `memory`.
///
/// # Errors
/// When it cannot be run anywhere.
pub fn order(job: &Job, tools: &[ToolSpec], memory: ByteSize) -> Result<Order, Error> {
    let left = ByteSize(memory.bytes().saturating_sub(GUEST_OWN.bytes()));
    if job.limits.memory > left {
        return Err(Error::Memory { asked: job.limits.memory, memory, left });
    }
    let limited =
        Run { memory: job.limits.memory.bytes(), processes: job.limits.processes, ..Run::default() };
    let expected = job.expected_effects.clone();
    match &job.task {
        Task::Command(command) => Ok(Order {
            run: Run {
                argv: command.argv.clone(),
                env: command.env.clone(),
                cwd: command.cwd.clone(),
                user: command.user.clone(),
                ..limited
            },
            stdin: command.stdin.clone(),
            name: command.argv.first().cloned().unwrap_or_default(),
            answers_json: false,
            expected_effects: expected,
        }),
        Task::FunctionCall(call) => {
            let tool = tools.iter().find(|tool| tool.name == call.name.as_str()).ok_or_else(|| {
                Error::UnknownTool {
                    tool: call.name.to_string(),
                    image: job.image.to_string(),
                    known: tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>().join(", "),
                }
            })?;
            Ok(Order {
                run: Run { argv: tool.entry.clone(), cwd: workspace(), ..limited },
                stdin: Some(Content::Inline(call.args.to_string().into_bytes())),
                name: tool.name.clone(),
                answers_json: true,
                expected_effects: [expected, tool.expected_effects.clone()].concat(),
            })
        }
        Task::Unknown => Err(Error::UnknownKind),
    }
}

/// What the host watches over while `job` runs.
pub fn meter(job: &Job, disk_max: ByteSize) -> Meter {
    let limits = &job.limits;
    Meter {
        wall: limits.wall,
        cpu: limits.cpu,
        output: limits.output.bytes(),
        disk: limits.disk.min(disk_max).bytes(),
    }
}
