//! Whether a suspicion is right: sequential tests on what was run again, and on what came anew. Pure.
//!
//! What was run again was chosen because it was bad, so it is held against the worst: a rate of half the good one. New
//! evaluations are held against the rate that was seen.

use super::rates::{good, told_apart};
use evalfleet_analytics::rate::Tally;
use evalfleet_analytics::sequential::{Decision, Rates, Sprt};
use evalfleet_proto::alert::{Kind, Level};

/// How often a good one may be confirmed as bad, and a bad one dismissed.
const FALSE_CONFIRM: f64 = 0.01;
const FALSE_DISMISS: f64 = 0.05;
/// Of durations: how often one is as short as before where nothing changed, and where it did.
const AS_SHORT: f64 = 0.9;
const AS_SHORT_IF_SLOWER: f64 = 0.3;

/// The tests of one suspicion.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    reruns: Sprt,
    news: Sprt,
    /// What new evaluations decided, heeded where nothing can be run again.
    pub(super) news_said: Option<Decision>,
    recovery: Sprt,
    rates: Rates,
}

fn sprt(rates: Rates) -> Option<Sprt> {
    Sprt::new(rates, FALSE_CONFIRM, FALSE_DISMISS)
}

impl Evidence {
    /// The tests that tell these two levels apart; none where they cannot be.
    pub(super) fn new(kind: Kind, before: Level, after: Level) -> Option<Self> {
        let of = |level: Level| Tally { passed: level.passed.min(level.tries), tries: level.tries };
        let (rates, worst) = match kind {
            Kind::Slower => {
                let rates = Rates::new(AS_SHORT, AS_SHORT_IF_SLOWER)?;
                (rates, rates)
            }
            Kind::Failing | Kind::Unknown => {
                let good = good(of(before));
                (told_apart(of(before), of(after))?, Rates::new(good, good / 2.0)?)
            }
        };
        let (reruns, news, recovery) = (sprt(worst)?, sprt(rates)?, sprt(rates)?);
        Some(Self { reruns, news, news_said: None, recovery, rates })
    }

    /// One that was run again.
    pub(super) fn rerun(&mut self, fine: bool) -> Option<Decision> {
        self.reruns.push(fine)
    }

    /// One that came anew. The first decision stands.
    pub(super) fn news(&mut self, fine: bool) {
        if self.news_said.is_none() {
            self.news_said = self.news.push(fine);
        }
    }

    /// One that came after the alarm was raised; tells whether all is well again.
    pub(super) fn recovered(&mut self, fine: bool) -> bool {
        match self.recovery.push(fine) {
            Some(Decision::Dismissed) => true,
            Some(Decision::Confirmed) => {
                // Still bad: from here on anew.
                self.recovery = sprt(self.rates).unwrap_or(self.recovery);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(before: (u64, u64), after: (u64, u64)) -> Evidence {
        let level = |(passed, tries)| Level { passed, tries, wall_ms: None };
        Evidence::new(Kind::Failing, level(before), level(after)).unwrap()
    }

    #[test]
    fn a_few_reruns_decide() {
        let mut evidence = failing((24, 24), (0, 3));
        assert_eq!([(); 2].map(|()| evidence.rerun(false)), [None, Some(Decision::Confirmed)]);
        let mut evidence = failing((24, 24), (0, 3));
        let fine = (1..20).find(|_| evidence.rerun(true) == Some(Decision::Dismissed));
        assert!(fine.is_some_and(|nth| nth <= 6), "{fine:?}");
    }

    #[test]
    fn one_pass_among_failures_is_no_recovery_and_some_passes_are() {
        let mut evidence = failing((24, 24), (0, 3));
        assert!(
            ![false, true, false, true, false, false].map(|fine| evidence.recovered(fine)).contains(&true)
        );
        assert!((0..10).any(|_| evidence.recovered(true)));
    }

    #[test]
    fn what_came_first_of_new_ones_stands() {
        let mut evidence = failing((24, 24), (0, 3));
        (0..5).for_each(|_| evidence.news(false));
        (0..50).for_each(|_| evidence.news(true));
        assert_eq!(evidence.news_said, Some(Decision::Confirmed));
    }
}
