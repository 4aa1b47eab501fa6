//! The life of an alarm, as a pure function: nobody is told before reruns confirmed it.
//!
//! ```text
//! (none) ─▶ Suspected ─ reruns begin ─▶ Confirming ─ bad ─▶ Raised ─ recovered ─▶ Closed
//!               │                            │
//!               └─ forgotten ─▶ Dismissed ◀──┴─ fine, or out of time
//! ```
//!
//! A suspicion of what is already suspected, confirming or raised is the same alarm, counted. A new one
//! of what was dismissed or closed begins a new alarm, not before `rest` is over. People judge what was
//! raised; [`Precision`] is the share of right ones. Times are [`Duration`]s since any fixed moment and must
//! not go back; an earlier one counts as the last.

use crate::rate::{Confidence, Interval, Tally};
use serde::Serialize;
use std::time::Duration;

/// How patient an alarm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long reruns may take before the suspicion is dismissed.
    pub confirm_within: Duration,
    /// How long after the last suspicion one that nobody reruns is forgotten.
    pub forget: Duration,
    /// How long after its end the same alarm stays silent.
    pub rest: Duration,
}

impl Default for Settings {
    /// An hour, an hour, ten minutes.
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { confirm_within: hour, forget: hour, rest: hour / 6 }
    }
}

/// What people said of a raised alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// There was something to do.
    Right,
    /// There was not.
    Wrong,
}

/// Why one came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dismissal {
    /// Reruns were fine.
    RerunsFine,
    /// Reruns did not decide in time.
    OutOfTime,
    /// Nobody reran it, and it did not come again.
    Forgotten,
}

/// Where an alarm stands; each state has only its own data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Nothing.
    None,
    /// Something looks wrong.
    Suspected {
        /// How often it was suspected.
        times: u32,
        /// When last.
        last: Duration,
    },
    /// Reruns are on their way.
    Confirming {
        /// How often it was suspected.
        times: u32,
        /// When reruns began.
        since: Duration,
    },
    /// People were told.
    Raised {
        /// How often it was suspected.
        times: u32,
        /// When they were told.
        since: Duration,
        /// What they said.
        judged: Option<Judgement>,
    },
    /// Nothing was wrong.
    Dismissed {
        /// Why.
        why: Dismissal,
        /// When.
        at: Duration,
    },
    /// It recovered after it was raised.
    Closed {
        /// When.
        at: Duration,
        /// What people said of it.
        judged: Option<Judgement>,
    },
}

/// What happens to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A detector sees it.
    Suspect,
    /// Reruns were submitted.
    RerunsBegan,
    /// Reruns failed as well.
    RerunsBad,
    /// Reruns were fine.
    RerunsFine,
    /// What was wrong is well again.
    Recovered,
    /// A person judges it.
    Judge(Judgement),
    /// Time passes.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Submit reruns, and say [`Event::RerunsBegan`].
    Rerun,
    /// Tell people.
    Tell,
    /// Tell people that it is over.
    TellRecovered,
}

/// The next state, and what is to be done. An event that does not fit the state changes nothing.
pub fn step(state: State, event: Event, now: Duration, settings: &Settings) -> (State, Option<Action>) {
    match state {
        State::None => first(state, event, now),
        State::Dismissed { at, .. } | State::Closed { at, .. }
            if matches!(event, Event::Suspect) && now < at.saturating_add(settings.rest) =>
        {
            (state, None)
        }
        State::Dismissed { .. } => first(state, event, now),
        State::Closed { at, .. } => match event {
            Event::Judge(judgement) => (State::Closed { at, judged: Some(judgement) }, None),
            Event::Suspect
            | Event::RerunsBegan
            | Event::RerunsBad
            | Event::RerunsFine
            | Event::Recovered
            | Event::Tick => first(state, event, now),
        },
        State::Suspected { times, last } => match event {
            Event::Suspect => {
                (State::Suspected { times: times.saturating_add(1), last: now.max(last) }, None)
            }
            Event::RerunsBegan => (State::Confirming { times, since: now.max(last) }, None),
            Event::Tick if now >= last.saturating_add(settings.forget) => {
                (State::Dismissed { why: Dismissal::Forgotten, at: now }, None)
            }
            Event::RerunsBad | Event::RerunsFine | Event::Recovered | Event::Judge(_) | Event::Tick => {
                (state, None)
            }
        },
        State::Confirming { times, since } => match event {
            Event::Suspect => (State::Confirming { times: times.saturating_add(1), since }, None),
            Event::RerunsBad => {
                (State::Raised { times, since: now.max(since), judged: None }, Some(Action::Tell))
            }
            Event::RerunsFine => (State::Dismissed { why: Dismissal::RerunsFine, at: now.max(since) }, None),
            Event::Tick if now >= since.saturating_add(settings.confirm_within) => {
                (State::Dismissed { why: Dismissal::OutOfTime, at: now }, None)
            }
            Event::RerunsBegan | Event::Recovered | Event::Judge(_) | Event::Tick => (state, None),
        },
        State::Raised { times, since, judged } => match event {
            Event::Suspect => (State::Raised { times: times.saturating_add(1), since, judged }, None),
            Event::Judge(judgement) => (State::Raised { times, since, judged: Some(judgement) }, None),
            Event::Recovered => (State::Closed { at: now.max(since), judged }, Some(Action::TellRecovered)),
            Event::RerunsBegan | Event::RerunsBad | Event::RerunsFine | Event::Tick => (state, None),
        },
    }
}

/// Only a suspicion begins an alarm.
fn first(state: State, event: Event, now: Duration) -> (State, Option<Action>) {
    match event {
        Event::Suspect => (State::Suspected { times: 1, last: now }, Some(Action::Rerun)),
        Event::RerunsBegan
        | Event::RerunsBad
        | Event::RerunsFine
        | Event::Recovered
        | Event::Judge(_)
        | Event::Tick => (state, None),
    }
}

/// How many raised alarms were right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Precision {
    /// Right of judged.
    pub judged: Tally,
    /// Raised and not judged yet: they count neither way.
    pub unjudged: u64,
    /// Where the true share lies.
    pub bounds: Interval,
}

/// The precision of the alarms that were raised, closed or not.
pub fn precision(alarms: &[State], confidence: Confidence) -> Precision {
    let mut judged = Tally::default();
    let mut unjudged = 0;
    for alarm in alarms {
        match alarm {
            State::Raised { judged: said, .. } | State::Closed { judged: said, .. } => match said {
                Some(said) => {
                    let right = u64::from(*said == Judgement::Right);
                    judged = Tally { passed: judged.passed + right, tries: judged.tries + 1 };
                }
                None => unjudged += 1,
            },
            State::None | State::Suspected { .. } | State::Confirming { .. } | State::Dismissed { .. } => {}
        }
    }
    Precision { judged, unjudged, bounds: judged.wilson(confidence) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(events: &[(Event, u64)]) -> (State, Vec<Action>) {
        let mut actions = Vec::new();
        let state = events.iter().fold(State::None, |state, (event, at)| {
            let (state, action) = step(state, *event, Duration::from_secs(*at), &Settings::default());
            actions.extend(action);
            state
        });
        (state, actions)
    }

    #[test]
    fn one_that_is_confirmed_told_and_recovers() {
        use Event::{Judge, Recovered, RerunsBad, RerunsBegan, Suspect};
        let (state, actions) = run(&[
            (Suspect, 1),
            (RerunsBegan, 2),
            (Suspect, 3),
            (RerunsBad, 4),
            (Suspect, 5),
            (Judge(Judgement::Right), 6),
            (Recovered, 7),
        ]);
        assert_eq!(actions, [Action::Rerun, Action::Tell, Action::TellRecovered]);
        assert_eq!(state, State::Closed { at: Duration::from_secs(7), judged: Some(Judgement::Right) });
        assert_eq!(precision(&[state], Confidence::default()).judged, Tally { passed: 1, tries: 1 });
    }

    #[test]
    fn fine_reruns_tell_nobody_and_it_rests_before_it_comes_again() {
        use Event::{RerunsBegan, RerunsFine, Suspect};
        let fine = [(Suspect, 1), (RerunsBegan, 2), (RerunsFine, 3)];
        assert_eq!(run(&fine).1, [Action::Rerun]);
        assert_eq!(run(&[&fine[..], &[(Suspect, 100)]].concat()).1, [Action::Rerun]);
        assert_eq!(run(&[&fine[..], &[(Suspect, 604)]].concat()).1, [Action::Rerun, Action::Rerun]);
    }

    #[test]
    fn reruns_that_never_end_and_suspicions_nobody_reruns_are_dismissed() {
        use Event::{RerunsBegan, Suspect, Tick};
        let why = |events: &[(Event, u64)]| match run(events).0 {
            State::Dismissed { why, .. } => Some(why),
            State::None
            | State::Suspected { .. }
            | State::Confirming { .. }
            | State::Raised { .. }
            | State::Closed { .. } => None,
        };
        assert_eq!(why(&[(Suspect, 1), (RerunsBegan, 2), (Tick, 3603)]), Some(Dismissal::OutOfTime));
        assert_eq!(why(&[(Suspect, 1), (Tick, 3602)]), Some(Dismissal::Forgotten));
        assert_eq!(why(&[(Suspect, 1), (Suspect, 3000), (Tick, 3602)]), None);
    }

    fn events() -> impl Strategy<Value = Vec<(Event, u64)>> {
        use Event::{Judge, Recovered, RerunsBad, RerunsBegan, RerunsFine, Suspect, Tick};
        let event = prop::sample::select(vec![
            Suspect,
            RerunsBegan,
            RerunsBad,
            RerunsFine,
            Recovered,
            Judge(Judgement::Right),
            Judge(Judgement::Wrong),
            Tick,
        ]);
        prop::collection::vec((event, 0_u64..2000), 0..60).prop_map(|events| {
            let mut now = 0;
            events
                .into_iter()
                .map(|(event, later)| {
                    now += later;
                    (event, now)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn people_hear_only_of_what_reruns_confirmed_and_each_once(events in events()) {
            let mut state = State::None;
            let mut open = false;
            for (event, at) in events {
                let confirmed = event == Event::RerunsBad && matches!(state, State::Confirming { .. });
                let (next, action) = step(state, event, Duration::from_secs(at), &Settings::default());
                match action {
                    Some(Action::Tell) => {
                        prop_assert!(confirmed && !open);
                        open = true;
                    }
                    Some(Action::TellRecovered) => {
                        prop_assert!(open);
                        open = false;
                    }
                    Some(Action::Rerun) => prop_assert!(!open),
                    None => {}
                }
                prop_assert_eq!(open, matches!(next, State::Raised { .. }));
                state = next;
            }
        }
    }
}
