//! Faults that are written down beforehand: at this step of that part, the nth time, this goes wrong.

use std::sync::{Arc, Mutex, PoisonError};

/// What a part, or the broker by itself, is about to do. Each goes with a name: of an exchange, a queue, a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Publishes to an exchange.
    Publish,
    /// Is handed a message of a queue.
    Take,
    /// Acknowledges a message of a queue.
    Ack,
    /// Makes a VM.
    Make,
    /// Has a VM begin with a job.
    Work,
    /// Has a VM that is done with a job.
    Worked,
    /// Writes a batch of results.
    Transact,
    /// Writes the result of a job, as one of a batch.
    Record,
    /// Sends a message of a queue to where its dead ones go.
    DeadLetter,
    /// Anything else that is asked of a broker.
    Other,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection breaks, and it was not done.
    BreakBefore,
    /// The connection breaks, and it was done.
    BreakAfter,
    /// The part is killed, and it was not done.
    CrashBefore,
    /// The part is killed, and it was done.
    CrashAfter,
    /// It is done, and its answer never comes.
    Unanswered,
    /// It is done when whoever asked has given up.
    Late,
    /// It does not work out, and that is said.
    Fail,
    /// It is done twice.
    Twice,
    /// The broker goes down, and it was not done.
    Outage,
    /// From now on, and for longer than a confirm is waited for, publishers are blocked.
    Shortage,
    /// From now on, and for as long, the lanes have no room.
    Full,
}

impl Fault {
    /// Whether the part dies of it.
    pub(crate) fn kills(self) -> bool {
        matches!(self, Self::CrashBefore | Self::CrashAfter)
    }
}

/// One fault.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    who: &'static str,
    deed: Deed,
    name: String,
    fault: Fault,
    nth: u64,
    times: u64,
    seen: u64,
    struck: u64,
}

/// The first time that a part whose name begins with `who` does `deed` to something whose name begins with
/// `name`.
pub(crate) fn when(who: &'static str, deed: Deed, name: impl Into<String>, fault: Fault) -> Rule {
    Rule { who, deed, name: name.into(), fault, nth: 1, times: 1, seen: 0, struck: 0 }
}

impl Rule {
    /// The `nth` time instead, from 1.
    pub(crate) fn nth(self, nth: u64) -> Self {
        Self { nth, ..self }
    }

    /// So often in a row instead of once.
    pub(crate) fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }
}

/// The faults of a schedule. Its clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Vec<Rule>>>);

impl Script {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self(Arc::new(Mutex::new(rules)))
    }

    /// What goes wrong now, if anything does.
    pub(crate) fn strikes(&self, who: &str, deed: Deed, name: &str) -> Option<Fault> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fault = None;
        for rule in rules.iter_mut() {
            if rule.deed == deed && who.starts_with(rule.who) && name.starts_with(&rule.name) {
                rule.seen += 1;
                if rule.seen >= rule.nth && rule.seen - rule.nth < rule.times {
                    rule.struck += 1;
                    fault = Some(rule.fault);
                }
            }
        }
        fault
    }

    /// The faults that never came to pass.
    pub(crate) fn unstruck(&self) -> Vec<String> {
        let rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter().filter(|rule| rule.struck == 0).map(|rule| format!("{rule:?}")).collect()
    }
}
