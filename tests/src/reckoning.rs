//! What became of jobs, reckoned up: each that was accepted must be recorded once, as it was meant to end, or
//! be a dead letter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter};

/// What is known when all is over.
#[derive(Debug, Default)]
pub struct Books {
    /// The status that each planned job was meant to have, by its id.
    pub planned: BTreeMap<String, &'static str>,
    /// The jobs whose publish was confirmed.
    pub accepted: BTreeSet<String>,
    /// Every record there ever was, taken back or not: job, status.
    pub records: Vec<(String, String)>,
    /// The jobs of the dead letters.
    pub letters: BTreeSet<String>,
}

/// What came of it; the lists are what must be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reckoning {
    /// Jobs whose publish was confirmed.
    pub accepted: usize,
    /// Of all planned ones, those that have a record.
    pub recorded: usize,
    /// Accepted ones that the broker gave up: a dead letter, and no record or one that says so.
    pub given_up: usize,
    /// Recorded although their producer never heard a confirm: it was killed in between.
    pub unheard: usize,
    /// Accepted, and nowhere.
    pub lost: Vec<String>,
    /// Recorded more than once.
    pub doubled: Vec<String>,
    /// Recorded with another status than they were meant to have.
    pub wrong: Vec<String>,
    /// Recorded, and never planned.
    pub strangers: Vec<String>,
}

impl Reckoning {
    /// Reckons up.
    pub fn of(books: &Books) -> Self {
        let mut statuses: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (job, status) in &books.records {
            statuses.entry(job).or_default().push(status);
        }
        let mut reckoning = Self { accepted: books.accepted.len(), ..Self::default() };
        for (job, found) in &statuses {
            let Some(meant) = books.planned.get(*job) else {
                reckoning.strangers.push((*job).to_owned());
                continue;
            };
            reckoning.recorded += 1;
            reckoning.unheard += usize::from(!books.accepted.contains(*job));
            if found.len() > 1 {
                reckoning.doubled.push(format!("{job} ({})", found.join(", ")));
            } else if found == &["dead"] && *meant != "dead" && books.letters.contains(*job) {
                reckoning.given_up += 1;
            } else if found != &[*meant] {
                reckoning.wrong.push(format!("{job} ({} and not {meant})", found.join(", ")));
            }
        }
        for job in books.accepted.iter().filter(|job| !statuses.contains_key(job.as_str())) {
            if books.letters.contains(job) {
                reckoning.given_up += 1;
            } else {
                reckoning.lost.push(job.clone());
            }
        }
        reckoning
    }

    /// Whether nothing was lost, doubled or changed.
    pub fn is_sound(&self) -> bool {
        [&self.lost, &self.doubled, &self.wrong, &self.strangers].into_iter().all(Vec::is_empty)
    }
}

impl Display for Reckoning {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "accepted          {:>7}", self.accepted)?;
        writeln!(f, "recorded          {:>7}  (unheard by their producer: {})", self.recorded, self.unheard)?;
        writeln!(
            f,
            "given up          {:>7}  (by the broker: handed out too often; a dead letter)",
            self.given_up
        )?;
        for (what, jobs) in [
            ("lost", &self.lost),
            ("recorded twice", &self.doubled),
            ("wrong status", &self.wrong),
            ("never planned", &self.strangers),
        ] {
            write!(f, "{what:<18}{:>7}", jobs.len())?;
            for job in jobs.iter().take(10) {
                write!(f, "\n    {job}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Books, Reckoning};

    /// Three jobs, all accepted; two are recorded, one is a dead letter.
    fn sound() -> Books {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Books {
            planned: [("a", "passed"), ("b", "failed"), ("c", "passed"), ("d", "passed")]
                .map(|(job, status)| (job.to_owned(), status))
                .into(),
            accepted: names(&["a", "b", "c"]),
            records: [("a", "passed"), ("b", "failed")]
                .map(|(job, status)| (job.into(), status.into()))
                .into(),
            letters: names(&["c"]),
        }
    }

    fn with(change: impl FnOnce(&mut Books)) -> Reckoning {
        let mut books = sound();
        change(&mut books);
        Reckoning::of(&books)
    }

    #[test]
    fn what_is_recorded_once_or_dead_is_sound() {
        let reckoning = with(|_| ());
        assert!(reckoning.is_sound(), "{reckoning}");
        assert_eq!((reckoning.accepted, reckoning.recorded, reckoning.given_up), (3, 2, 1));
        let told = with(|books| books.records.push(("c".to_owned(), "dead".to_owned())));
        assert!(told.is_sound() && told.given_up == 1, "{told}");
        let unheard = with(|books| books.records.push(("d".to_owned(), "passed".to_owned())));
        assert!(unheard.is_sound() && unheard.unheard == 1, "{unheard}");
    }

    #[test]
    fn every_breach_is_found_and_named() {
        let lost = with(|books| books.letters.clear());
        assert_eq!((lost.is_sound(), lost.lost.as_slice()), (false, &["c".to_owned()][..]));
        let doubled = with(|books| books.records.push(("a".to_owned(), "passed".to_owned())));
        assert!(!doubled.is_sound() && doubled.doubled[0].starts_with("a "), "{doubled}");
        let wrong = with(|books| books.records[1].1 = "passed".to_owned());
        assert!(!wrong.is_sound() && wrong.wrong[0].starts_with("b "), "{wrong}");
        let stranger = with(|books| books.records.push(("z".to_owned(), "passed".to_owned())));
        assert!(!stranger.is_sound() && stranger.strangers == ["z"], "{stranger}");
    }
}
