//! Whether a suspicion is right: sequential tests on what was run again, and on what came anew. Pure.
//!
//! What was run again was chosen because it was bad, so it is held against the worst: half of the rate that is sure, and
//! less. New evaluations are held against the rate that was seen, and a smaller drop, too; where reruns alone did not decide,
//! they count together with these. Whatever a test decides, the past must be surely better than what came since, and not by
//! one worker's doing alone.

use super::rates::{BROKEN, DROP, count, sum, surely, told_apart};
use evalfleet_analytics::rate::{Tally, fisher};
use evalfleet_analytics::sequential::{Decision, Rates, Sprt};
use evalfleet_proto::alert::{Kind, Level};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often a good one may be confirmed as bad, and a bad one dismissed.
const FALSE_CONFIRM: f64 = 0.0005;
const FALSE_DISMISS: f64 = 0.02;
/// Of amounts: how often one is as small as before where nothing changed, and where it did.
const AS_SMALL: f64 = 0.9;
const AS_SMALL_IF_MORE: f64 = 0.3;

/// However a sequential test decides, what came of it and what was before must be so improbable as samples of one rate: the
/// past is a sample, too, and among many that are watched some look better than they are.
const BY_CHANCE: f64 = 0.0005;
/// And so improbable without the worker that had most of what is bad, where elsewhere most is well: one machine makes no case.
const BY_CHANCE_ELSEWHERE: f64 = 0.02;

/// One sequential test against several alternatives: nobody knows by how much it became worse. Any of them confirms, the
/// first of them dismisses. The first decision stands.
#[derive(Debug, Clone)]
struct Test {
    sprts: Vec<Sprt>,
    /// What the sequential test decided, and what stands.
    leans: Option<Decision>,
    said: Option<Decision>,
    /// By worker.
    seen: BTreeMap<Option<Arc<str>>, Tally>,
    /// What was before; none where it is no sample of outcomes.
    before: Option<Tally>,
}

impl Test {
    fn new(rates: &[Rates], before: Option<Tally>) -> Option<Self> {
        let sprts: Option<_> =
            rates.iter().map(|rates| Sprt::new(*rates, FALSE_CONFIRM, FALSE_DISMISS)).collect();
        Some(Self { sprts: sprts?, leans: None, said: None, seen: BTreeMap::new(), before })
    }

    fn push(&mut self, fine: bool, worker: Option<&Arc<str>>) {
        let seen = self.seen.entry(worker.cloned()).or_default();
        *seen = count(*seen, fine);
        if self.leans.is_none() {
            let each: Vec<_> = self.sprts.iter_mut().map(|sprt| sprt.push(fine)).collect();
            let confirms = each.contains(&Some(Decision::Confirmed));
            self.leans = if confirms { Some(Decision::Confirmed) } else { each.first().copied().flatten() };
        }
        if self.said.is_none() {
            self.said = self.leans.filter(|leans| *leans == Decision::Dismissed || self.is_surely_worse());
        }
    }

    fn is_surely_worse(&self) -> bool {
        let Some(before) = self.before else { return true };
        let worst = self.seen.iter().max_by_key(|(_, seen)| seen.failed()).map(|(worker, _)| worker);
        let others = self.seen.iter().filter(|(worker, _)| Some(*worker) != worst);
        let elsewhere = others.map(|(_, seen)| *seen).fold(Tally::default(), sum);
        let all = self.seen.values().copied().fold(Tally::default(), sum);
        let is_well_elsewhere = elsewhere.tries > 0 && 2 * elsewhere.passed >= elsewhere.tries;
        let is_one_machines = is_well_elsewhere && fisher(before, elsewhere) > BY_CHANCE_ELSEWHERE;
        fisher(before, all) <= BY_CHANCE && !is_one_machines
    }
}

/// The tests of one suspicion.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    reruns: Test,
    /// What came anew, heeded where nothing can be run again.
    news: Test,
    /// The same with what was run again.
    all: Test,
    recovery: Test,
    rates: Rates,
}

impl Evidence {
    /// The tests that tell these two levels apart; none where they cannot be.
    pub(super) fn new(kind: Kind, before: Level, after: Level) -> Option<Self> {
        let of = |level: Level| Tally { passed: level.passed.min(level.tries), tries: level.tries };
        let (rates, worse, sample) = match kind {
            Kind::Slower | Kind::Memory | Kind::Disk | Kind::Reset => {
                (Rates::new(AS_SMALL, AS_SMALL_IF_MORE)?, Vec::new(), None)
            }
            Kind::Failing | Kind::Unknown => {
                let good = surely(of(before));
                let worse = [good / 2.0, good / BROKEN, (good - DROP).max(good / 2.0)];
                let worse: Option<Vec<Rates>> = worse.into_iter().map(|bad| Rates::new(good, bad)).collect();
                (told_apart(of(before), of(after))?, worse?, Some(of(before)))
            }
        };
        let worst = if worse.is_empty() { vec![rates] } else { worse[..2].to_vec() };
        let (reruns, news) =
            (Test::new(&worst, sample)?, Test::new(&[&[rates], &worse[..]].concat(), sample)?);
        let (all, recovery) = (news.clone(), Test::new(&[rates], None)?);
        Some(Self { reruns, news, all, recovery, rates })
    }

    /// The rates that tell the two levels apart.
    pub(super) fn rates(&self) -> Rates {
        self.rates
    }

    /// One that was run again.
    pub(super) fn rerun(&mut self, fine: bool, worker: Option<&Arc<str>>) -> Option<Decision> {
        self.all.push(fine, worker);
        self.reruns.push(fine, worker);
        self.reruns.said
    }

    /// What new evaluations decided where reruns did not: together with these, where they are to be heeded.
    pub(super) fn said(&self, with_reruns: bool) -> Option<Decision> {
        if with_reruns { self.all.said } else { self.news.said }
    }

    /// One that came anew.
    pub(super) fn news(&mut self, fine: bool, worker: Option<&Arc<str>>) {
        self.news.push(fine, worker);
        self.all.push(fine, worker);
    }

    /// One that came after the alarm was raised; tells whether all is well again.
    pub(super) fn recovered(&mut self, fine: bool) -> bool {
        self.recovery.push(fine, None);
        let said = self.recovery.said;
        if said == Some(Decision::Confirmed) {
            // Still bad: from here on anew.
            self.recovery = Test::new(&[self.rates], None).unwrap_or_else(|| self.recovery.clone());
        }
        said == Some(Decision::Dismissed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(before: (u64, u64), after: (u64, u64)) -> Evidence {
        let level = |(passed, tries)| Level { passed, tries, ..Level::default() };
        Evidence::new(Kind::Failing, level(before), level(after)).unwrap()
    }

    #[test]
    fn a_few_reruns_decide() {
        let mut evidence = failing((24, 24), (0, 3));
        let bad = (1..20).find(|_| evidence.rerun(false, None) == Some(Decision::Confirmed));
        assert!(bad.is_some_and(|nth| (3..=5).contains(&nth)), "{bad:?}");
        let mut evidence = failing((24, 24), (0, 3));
        let fine = (1..20).find(|_| evidence.rerun(true, None) == Some(Decision::Dismissed));
        assert!(fine.is_some_and(|nth| nth <= 6), "{fine:?}");
    }

    #[test]
    fn a_short_past_wants_more_than_a_long_one() {
        let wanted = |before| {
            let mut evidence = failing(before, (3, 7));
            (1..40).find(|_| evidence.rerun(false, None) == Some(Decision::Confirmed)).unwrap()
        };
        assert!(wanted((9, 9)) > wanted((90, 90)), "{} and {}", wanted((9, 9)), wanted((90, 90)));
    }

    #[test]
    fn a_past_that_may_have_been_luck_confirms_nothing_before_there_is_enough() {
        let mut evidence = failing((26, 26), (6, 9));
        // Nine of ten, as it always was.
        (0..300).for_each(|nth| evidence.news(nth % 10 != 0, None));
        assert_ne!(evidence.said(false), Some(Decision::Confirmed));
    }

    #[test]
    fn one_machine_makes_no_case() {
        let of = |bad_elsewhere: usize| {
            let (bad, well): (Arc<str>, Arc<str>) = ("bad".into(), "well".into());
            let mut evidence = failing((24, 24), (0, 3));
            for nth in 0..6 {
                evidence.news(nth >= bad_elsewhere, Some(&well));
                (0..2).for_each(|_| evidence.news(false, Some(&bad)));
            }
            evidence.said(false)
        };
        assert_eq!((of(0), of(5)), (None, Some(Decision::Confirmed)));
    }

    #[test]
    fn one_pass_among_failures_is_no_recovery_and_some_passes_are() {
        let mut evidence = failing((24, 24), (0, 3));
        assert!(
            ![false, true, false, true, false, false].map(|fine| evidence.recovered(fine)).contains(&true)
        );
        assert!((0..20).any(|_| evidence.recovered(true)));
    }

    #[test]
    fn what_came_first_of_new_ones_stands() {
        let mut evidence = failing((24, 24), (0, 3));
        (0..5).for_each(|_| evidence.news(false, None));
        (0..50).for_each(|_| evidence.news(true, None));
        assert_eq!(evidence.said(false), Some(Decision::Confirmed));
    }
}
