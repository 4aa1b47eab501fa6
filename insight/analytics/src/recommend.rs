//! What to do with a version of a tool: promote, keep, quarantine, or gather more evidence.
//!
//! The numbers are Wilson's bounds on its own rate and McNemar's comparison with the last version on the
//! same cases; infrastructure's failures should be left out before ([`crate::rate::Rates::attributed`]).
//! Constant time, but for the exact test (linear in the cases that differ).

use crate::rate::{Comparison, Confidence, Interval, Pairs, Tally, unpaired};
use serde::Serialize;

/// What counts as good and bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// A tool is good when its rate is surely above this.
    pub good: f64,
    /// And bad when it is surely below this.
    pub bad: f64,
    /// How sure is sure.
    pub confidence: Confidence,
}

impl Default for Policy {
    fn default() -> Self {
        Self { good: 0.9, bad: 0.5, confidence: Confidence::default() }
    }
}

/// What is known of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evidence {
    /// This version.
    pub now: Tally,
    /// The tool's earlier versions together; no tries if it is new.
    pub past: Tally,
    /// The last version (first) and this one (second) on the same cases.
    pub pairs: Pairs,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Use it in place of the last version.
    Promote,
    /// Leave things as they are.
    Keep,
    /// Stop using it.
    Quarantine,
    /// Run it more often first.
    NeedsMoreEvidence,
}

/// A recommendation with what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// What to do.
    pub action: Action,
    /// Why, in one sentence with the numbers.
    pub because: String,
    /// This version's rate.
    pub now: Tally,
    /// Where its true rate lies.
    pub bounds: Interval,
    /// Against the own past.
    pub past: Option<Comparison>,
    /// Against the last version on the same cases.
    pub paired: Option<Comparison>,
}

/// Recommends. A version that is surely worse than the last, or surely bad, is quarantined even when its
/// rate would do; one is promoted only if it is surely good and not surely worse than anything before.
pub fn recommend(evidence: &Evidence, policy: &Policy) -> Recommendation {
    let Evidence { now, past, pairs } = *evidence;
    let bounds = now.wilson(policy.confidence);
    let past = unpaired(past, now, policy.confidence);
    let paired = pairs.compare(policy.confidence);
    let alpha = 0.05;
    let worse = |compared: &Option<Comparison>| {
        compared.as_ref().filter(|compared| compared.is_worse() && compared.p < alpha).copied()
    };
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let range = |interval: Interval| format!("{} to {}", percent(interval.low), percent(interval.high));
    let own = format!("it passed {} of {} (true rate {})", now.passed, now.tries, range(bounds));
    let points = |compared: &Comparison| {
        format!(
            "{:.1} points ({:.1} to {:.1}, p = {:.2e})",
            compared.difference * 100.0,
            compared.interval.low * 100.0,
            compared.interval.high * 100.0,
            compared.p
        )
    };
    let (action, because) = if now.tries == 0 {
        (Action::NeedsMoreEvidence, "it was never run".to_owned())
    } else if now.consistently_fails(policy.bad, policy.confidence) {
        (Action::Quarantine, format!("{own}, surely below {}", percent(policy.bad)))
    } else if let Some(compared) = worse(&paired) {
        let Pairs { lost, gained, .. } = pairs;
        let cases = format!("on the same {} cases it lost {lost} and gained {gained}", pairs.count());
        (Action::Quarantine, format!("{cases} against the last version: {}", points(&compared)))
    } else if let Some(compared) = worse(&past) {
        (Action::Quarantine, format!("{own}, worse than its own past by {}", points(&compared)))
    } else if now.consistently_passes(policy.good, policy.confidence) {
        (
            Action::Promote,
            format!("{own}, surely above {}, and nothing before was surely better", percent(policy.good)),
        )
    } else if bounds.low > policy.bad && bounds.high < policy.good {
        (Action::Keep, format!("{own}, surely between {} and {}", percent(policy.bad), percent(policy.good)))
    } else {
        let bar = if bounds.low <= policy.bad { policy.bad } else { policy.good };
        (
            Action::NeedsMoreEvidence,
            format!("{own}, which does not tell whether it is above {}", percent(bar)),
        )
    };
    Recommendation { action, because, now, bounds, past, paired }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn action(passed: u64, tries: u64, past: (u64, u64), pairs: Pairs) -> Action {
        let evidence =
            Evidence { now: Tally { passed, tries }, past: Tally { passed: past.0, tries: past.1 }, pairs };
        recommend(&evidence, &Policy::default()).action
    }

    #[test]
    fn each_action_has_its_case() {
        let none = Pairs::default();
        assert_eq!(action(0, 0, (0, 0), none), Action::NeedsMoreEvidence);
        assert_eq!(action(3, 3, (0, 0), none), Action::NeedsMoreEvidence);
        assert_eq!(action(100, 100, (0, 0), none), Action::Promote);
        assert_eq!(action(2, 30, (0, 0), none), Action::Quarantine);
        assert_eq!(action(140, 200, (0, 0), none), Action::Keep);
    }

    #[test]
    fn a_fine_rate_does_not_save_what_was_better_before() {
        let pairs = Pairs { both: 190, lost: 10, gained: 0, neither: 0 };
        assert_eq!(action(190, 200, (0, 0), pairs), Action::Quarantine);
        assert_eq!(action(185, 200, (4990, 5000), Pairs::default()), Action::Quarantine);
        let found = recommend(
            &Evidence { now: Tally { passed: 190, tries: 200 }, past: Tally::default(), pairs },
            &Policy::default(),
        );
        assert!(found.because.contains("lost 10 and gained 0"), "{}", found.because);
    }

    proptest! {
        #[test]
        fn nothing_is_done_without_evidence_and_more_passes_are_never_worse(tries in 1_u64..300, share in 0.0_f64..1.0) {
            let passed = (tries as f64 * share) as u64;
            let rank = |passed| match action(passed, tries, (0, 0), Pairs::default()) {
                Action::Quarantine => 0,
                Action::NeedsMoreEvidence | Action::Keep => 1,
                Action::Promote => 2,
            };
            prop_assert!(rank(passed) <= rank((passed + 1).min(tries)));
            prop_assert!(tries > 3 || rank(passed) == 1);
        }
    }
}
