//! The jobs of one session, by their handles: `#1`, `#2`, and so on.

use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::Exit;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Handles that are remembered; older ones of what is done are forgotten.
const HANDLES_MAX: usize = 10_000;
/// Results that are held; others are asked of the history.
const RESULTS_MAX: usize = 100;
/// Handles that completion offers.
const OFFERED_MAX: usize = 50;
/// Outstanding jobs that are named when the session ends.
const LEFT_MAX: usize = 10;

/// A job that was submitted here.
#[derive(Debug)]
struct Entry {
    id: JobId,
    what: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Outstanding,
    CalledOff,
    /// In a word, and in full while it is held.
    Done(&'static str, Option<Arc<Evaluation>>),
    /// It is not waited for any more.
    Lost,
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::Outstanding => "outstanding",
            Self::CalledOff => "called off",
            Self::Done(word, _) => word,
            Self::Lost => "not heard of",
        }
    }

    fn is_outstanding(&self) -> bool {
        matches!(self, Self::Outstanding | Self::CalledOff)
    }
}

/// The jobs of one session, shared with the tasks that wait for them.
#[derive(Debug, Clone, Default)]
pub(super) struct Jobs(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    all: BTreeMap<u32, Entry>,
    last: u32,
    held: VecDeque<u32>,
    ended: BTreeMap<&'static str, u64>,
    worst: u8,
    exit: Option<Exit>,
}

impl Jobs {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job is submitted; gives its number.
    pub(super) fn add(&self, id: JobId, what: String) -> u32 {
        let mut table = self.table();
        table.last += 1;
        let number = table.last;
        table.all.insert(number, Entry { id, what, state: State::Outstanding });
        if table.all.len() > HANDLES_MAX
            && let Some(oldest) =
                table.all.iter().find(|(_, job)| !job.state.is_outstanding()).map(|(at, _)| *at)
        {
            table.all.remove(&oldest);
        }
        number
    }

    /// Its result is there, and counts as `exit`.
    pub(super) fn done(&self, number: u32, evaluation: Arc<Evaluation>, exit: Exit) {
        let word = evaluation.status.as_str();
        let mut table = self.table();
        *table.ended.entry(word).or_default() += 1;
        table.note(exit);
        table.held.push_back(number);
        if let Some(job) = table.all.get_mut(&number) {
            job.state = State::Done(word, Some(evaluation));
        }
        if table.held.len() > RESULTS_MAX
            && let Some(oldest) = table.held.pop_front()
            && let Some(Entry { state: State::Done(_, held), .. }) = table.all.get_mut(&oldest)
        {
            *held = None;
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn lost(&self, number: u32, exit: Exit) {
        let mut table = self.table();
        *table.ended.entry("not heard of").or_default() += 1;
        table.note(exit);
        if let Some(job) = table.all.get_mut(&number) {
            job.state = State::Lost;
        }
    }

    pub(super) fn called_off(&self, number: u32) {
        if let Some(job) = self.table().all.get_mut(&number)
            && job.state.is_outstanding()
        {
            job.state = State::CalledOff;
        }
    }

    /// What is outstanding and not called off, the oldest first.
    pub(super) fn running(&self) -> Vec<(u32, JobId)> {
        let table = self.table();
        let running = table.all.iter().filter(|(_, job)| matches!(job.state, State::Outstanding));
        running.map(|(number, job)| (*number, job.id)).collect()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.table().all.values().filter(|job| job.state.is_outstanding()).count()
    }

    /// The id that `#N` stands for.
    pub(super) fn id_of(&self, handle: &str) -> Option<String> {
        let number: u32 = handle.strip_prefix('#')?.parse().ok()?;
        self.table().all.get(&number).map(|job| job.id.to_string())
    }

    /// A result that is held, with its number.
    pub(super) fn result(&self, id: &str) -> Option<(u32, Arc<Evaluation>)> {
        self.table().all.iter().rev().find_map(|(number, job)| {
            let State::Done(_, Some(evaluation)) = &job.state else { return None };
            (job.id.to_string() == id).then(|| (*number, evaluation.clone()))
        })
    }

    /// Takes note of how something ended.
    pub(super) fn note(&self, exit: Exit) {
        self.table().note(exit);
    }

    /// The worst of what was noted.
    pub(super) fn worst(&self) -> Exit {
        self.table().exit.unwrap_or(Exit::Passed)
    }

    /// The newest handles.
    pub(super) fn handles(&self) -> Vec<String> {
        let mut newest: Vec<_> =
            self.table().all.keys().rev().take(OFFERED_MAX).map(|number| format!("#{number}")).collect();
        newest.reverse();
        newest
    }

    /// Every job, as a document and as a line.
    pub(super) fn list(&self) -> Vec<(Value, String)> {
        let table = self.table();
        let lines = table.all.iter().map(|(number, Entry { id, what, state })| {
            let document = json!({"handle": number, "id": id, "state": state.word(), "what": what});
            (document, format!("{:<5} {id}  {:<14} {what}", format!("#{number}"), state.word()))
        });
        lines.collect()
    }

    /// What is outstanding, named; none when nothing is.
    pub(super) fn left(&self) -> Option<String> {
        let table = self.table();
        let left: Vec<_> = table.all.iter().filter(|(_, job)| job.state.is_outstanding()).collect();
        if left.is_empty() {
            return None;
        }
        let mut text = format!("{} outstanding:", left.len());
        for (number, Entry { id, what, state }) in left.iter().take(LEFT_MAX) {
            text += &format!("\n  #{number} {id} {}: {what}", state.word());
        }
        match left.len().saturating_sub(LEFT_MAX) {
            0 => {}
            more => text += &format!("\n  … and {more} more"),
        }
        text += "\nThey go on and are recorded: `evalfleet get ID`, or `evalfleet cancel ID`.";
        Some(text)
    }

    /// What they came to, as a document and as a line.
    pub(super) fn stats(&self) -> (Value, String) {
        let outstanding = self.outstanding();
        let table = self.table();
        let ended: Vec<_> = table.ended.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let text = format!("{} submitted, {outstanding} outstanding", table.last);
        let document = json!({"submitted": table.last, "outstanding": outstanding, "ended": table.ended});
        (document, std::iter::once(text).chain(ended).collect::<Vec<_>>().join(", "))
    }
}

impl Table {
    fn note(&mut self, exit: Exit) {
        if exit.code() > self.worst {
            (self.worst, self.exit) = (exit.code(), Some(exit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::tests::sample;

    #[test]
    fn a_handle_stands_for_its_job_and_then_its_result() {
        let jobs = Jobs::default();
        let evaluation = Arc::new(sample());
        let number = jobs.add(evaluation.id, "sleep 5".to_owned());
        assert_eq!(
            (jobs.running(), jobs.result(&evaluation.id.to_string())),
            (vec![(1, evaluation.id)], None)
        );
        jobs.called_off(number);
        assert_eq!((jobs.running().len(), jobs.outstanding()), (0, 1));
        assert!(
            jobs.left()
                .is_some_and(|left| left.contains("#1 0198c1c2-") && left.contains("called off: sleep 5"))
        );
        jobs.done(number, evaluation.clone(), Exit::Budget);
        assert_eq!(jobs.left(), None);
        assert_eq!(jobs.id_of("#1"), Some(evaluation.id.to_string()));
        assert_eq!(jobs.result(&evaluation.id.to_string()), Some((1, evaluation)));
        assert_eq!((jobs.id_of("#2"), jobs.id_of("1")), (None, None));
        assert_eq!((jobs.outstanding(), jobs.worst()), (0, Exit::Budget));
        assert_eq!(jobs.stats().1, "1 submitted, 0 outstanding, 1 timed_out");
        assert!(jobs.list()[0].1.ends_with("timed_out      sleep 5"));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let jobs = Jobs::default();
        let outstanding = jobs.add(JobId::fresh(), String::new());
        for _ in 0..HANDLES_MAX + 5 {
            let mut evaluation = sample();
            evaluation.id = JobId::fresh();
            let number = jobs.add(evaluation.id, String::new());
            jobs.done(number, Arc::new(evaluation), Exit::Passed);
        }
        let table = jobs.table();
        assert_eq!(table.all.len(), HANDLES_MAX);
        assert!(table.all.contains_key(&outstanding));
        let held = table.all.values().filter(|job| matches!(job.state, State::Done(_, Some(_)))).count();
        assert_eq!(held, RESULTS_MAX);
    }
}
