//! One evaluation as the watch sees it. Pure.

use crate::projection::{Outcome, Row, Symbol, World};
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::Cause;
use std::sync::Arc;
use std::time::Duration;

/// The label of jobs that were run again for an alert.
pub const LABEL: &str = "alert";

/// Beyond this share of what making a clean VM took, its job waited for it.
const WAITED: u64 = 10;

/// One evaluation of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Which.
    pub id: JobId,
    /// What was evaluated, `attribute=value`.
    pub subject: Arc<str>,
    /// The case that it tried.
    pub case: Option<Arc<str>>,
    /// Whether it passed; none where that was not the subject's doing.
    pub outcome: Option<bool>,
    /// When it finished.
    pub at: Timestamp,
    /// The version of the tool's code.
    pub version: Option<Arc<str>>,
    /// The revision of the agent that asked for it: the label `agent`.
    pub agent: Option<Arc<str>>,
    /// The image's digest.
    pub image: Option<Arc<str>>,
    /// The model.
    pub model: Option<Arc<str>>,
    /// Who ran it.
    pub worker: Option<Arc<str>>,
    /// `kvm` or `tcg`.
    pub accelerator: Option<Arc<str>>,
    /// The subject's own time on the clock; nothing where it was not measured.
    pub wall: Duration,
    /// The most memory beyond the template, in bytes; 0 where it was not measured.
    pub memory: u64,
    /// Written to the disks, in bytes; 0 where it was not measured.
    pub disk: u64,
    /// Making its clean VM; nothing where it was not measured, or where the job waited for it: such a VM is not warmed, and
    /// is not held against one that is.
    pub reset: Duration,
    /// Its worker's time.
    pub spent: Duration,
    /// Whether it was run again for an alert: it says nothing of how often the subject fails by itself.
    pub rerun: bool,
}

/// What of an evaluation people change, and can be bisected: of what tool, for what agent, in what image it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) version: Option<Arc<str>>,
    pub(super) agent: Option<Arc<str>>,
    pub(super) image: Option<Arc<str>>,
}

impl Origin {
    /// The parts by name, the nearest to the subject first.
    pub(super) fn parts(&self) -> [(&'static str, Option<&Arc<str>>); 3] {
        [("version", self.version.as_ref()), ("agent", self.agent.as_ref()), ("image", self.image.as_ref())]
    }
}

impl Sighting {
    pub(super) fn origin(&self) -> Origin {
        Origin { version: self.version.clone(), agent: self.agent.clone(), image: self.image.clone() }
    }

    /// What the watch sees of a row; none of what has no subject of its own: batches and their questions, sums of
    /// others, and programs that neither are a tool's nor try a case. Nor of what people replay: they choose what fails.
    pub fn of(world: &World, row: &Row) -> Option<Self> {
        let symbols = world.symbols();
        let shared = |symbol: Option<Symbol>| symbol.map(|symbol| symbols.shared(symbol));
        let label = |name: &str| -> Option<Arc<str>> {
            let of = |label: &Symbol| symbols.text(*label).strip_prefix(name)?.strip_prefix('=');
            row.labels.iter().find_map(of).map(Arc::from)
        };
        let call = match symbols.text(row.kind?) {
            "function_call" => shared(row.tool()),
            "command" => None,
            _ => return None,
        };
        let case = shared(row.case);
        let again = label(LABEL);
        if again.is_none() && row.replay_of.is_some_and(|of| !was_given_up(world, of)) {
            return None;
        }
        let subject = match (label("tool").or(call), &case, &again) {
            (Some(tool), ..) => format!("tool={tool}"),
            (None, Some(case), _) => format!("case={case}"),
            (None, None, Some(alert)) => format!("{LABEL}={alert}"),
            (None, None, None) => return None,
        };
        // What was never started did nothing.
        let expired = row.status.is_some_and(|status| symbols.text(status) == "expired");
        let outcome = match row.outcome() {
            Some(Outcome::Passed) => Some(true),
            Some(Outcome::Not(Cause::Subject | Cause::Budget)) if !expired => Some(false),
            Some(Outcome::Not(_)) | None => None,
        };
        let measures = &row.measures;
        let stood_ready = measures.claim <= measures.reset / WAITED;
        Some(Self {
            id: row.id.parse().ok()?,
            subject: subject.into(),
            case,
            outcome,
            at: crate::view::time(row.at),
            version: label("code"),
            agent: label("agent"),
            image: shared(row.image),
            model: shared(row.model),
            worker: shared(row.worker),
            accelerator: shared(row.accelerator),
            wall: Duration::from_micros(measures.wall),
            memory: measures.memory,
            disk: measures.disk_written,
            reset: Duration::from_micros(if stood_ready { measures.reset } else { 0 }),
            spent: Duration::from_micros(measures.claim + measures.run + measures.effects + measures.report),
            rerun: again.is_some(),
        })
    }
}

/// Whether an evaluation is a dead letter: what it comes to is its replay's to say.
fn was_given_up(world: &World, of: Symbol) -> bool {
    let symbols = world.symbols();
    let row = world.at(None).ok().and_then(|now| world.find(symbols.text(of), now));
    row.and_then(|row| row.status).is_some_and(|status| symbols.text(status) == "dead")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Job, history};

    const ID: &str = "0198c1c2-0000-7000-8000-000000000001";

    fn seen(job: Job<'_>) -> Option<Sighting> {
        let world = history(&[job]);
        let row = world.recorded_after(0).next().expect("it was recorded");
        Sighting::of(&world, row)
    }

    #[test]
    fn a_call_is_its_tools_and_a_program_its_cases_and_our_faults_are_nobodys() {
        let call = Job { id: ID, tool: "read", case: "s/c1", worker: "w1", wall: 7, ..Job::default() };
        let one = seen(call).unwrap();
        assert_eq!(
            (&*one.subject, one.case.as_deref(), one.outcome),
            ("tool=read", Some("s/c1"), Some(true))
        );
        assert_eq!((one.worker.as_deref(), one.wall), (Some("w1"), Duration::from_millis(7)));
        assert_eq!(seen(Job { cause: Some("subject"), ..call }).unwrap().outcome, Some(false));
        assert_eq!(seen(Job { cause: Some("infrastructure"), ..call }).unwrap().outcome, None);
        let program = Job { kind: "command", ..call };
        assert_eq!(&*seen(program).unwrap().subject, "case=s/c1");
        assert_eq!(seen(Job { case: "", ..program }), None);
        assert_eq!(seen(Job { kind: "tool", ..call }), None, "it sums others");
    }

    #[test]
    fn what_people_replay_says_nothing_and_the_replay_of_a_dead_letter_is_the_first_to_say_something() {
        let replay = |status| {
            let first = Job {
                id: "0198c1c2-0000-7000-8000-000000000002",
                cause: Some("infrastructure"),
                status,
                ..Job::default()
            };
            let world = history(&[first, Job { id: ID, replay_of: 1, ..Job::default() }]);
            let row = world.recorded_after(1).next().expect("it was recorded");
            Sighting::of(&world, row)
        };
        assert_eq!(replay("failed"), None);
        assert_eq!(replay("dead").and_then(|one| one.outcome), Some(true));
    }
}
