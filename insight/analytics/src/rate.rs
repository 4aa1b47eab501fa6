//! Success rates, how sure they are, and whether two differ.
//!
//! Sources: Wilson, JASA 22 (1927), and Newcombe, Statistics in Medicine 17 (1998) (methods 3 and 10);
//! Jeffreys' interval in Brown, Cai & DasGupta, Statistical Science 16 (2001); McNemar, Psychometrika 12
//! (1947), in its exact binomial form; Fisher, *The Design of Experiments* (1935).
//! Every function takes constant time but the exact tests, which take time linear in the counts.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

/// How often something was tried and succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Of these, how many passed; at most `tries`.
    pub passed: u64,
    /// How often it was tried.
    pub tries: u64,
}

/// A range for a number, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// A share of certainty, between 0 and 1: 0.95 unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Confidence(f64);

impl Confidence {
    /// None unless strictly between 0 and 1.
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share < 1.0).then_some(Self(share))
    }

    /// How many standard deviations to each side hold this share of a normal distribution.
    pub fn deviations(self) -> f64 {
        Normal::standard().inverse_cdf(f64::midpoint(1.0, self.0))
    }
}

impl Default for Confidence {
    fn default() -> Self {
        Self(0.95)
    }
}

impl Tally {
    /// None if more passed than were tried.
    pub fn new(passed: u64, tries: u64) -> Option<Self> {
        (passed <= tries).then_some(Self { passed, tries })
    }

    /// How many did not pass.
    pub fn failed(self) -> u64 {
        self.tries.saturating_sub(self.passed)
    }

    /// The rate from 0 to 1; none without tries.
    pub fn rate(self) -> Option<f64> {
        (self.tries > 0).then(|| self.passed as f64 / self.tries as f64)
    }

    /// Wilson's score interval; from 0 to 1 without tries.
    pub fn wilson(self, confidence: Confidence) -> Interval {
        let Some(rate) = self.rate() else { return Interval { low: 0.0, high: 1.0 } };
        let (tries, z) = (self.tries as f64, confidence.deviations());
        let shrink = 1.0 + z * z / tries;
        let centre = (rate + z * z / (2.0 * tries)) / shrink;
        let half = z / shrink * (rate * (1.0 - rate) / tries + z * z / (4.0 * tries * tries)).sqrt();
        // At the ends the formula is exact, and rounding is not.
        Interval {
            low: if self.passed == 0 { 0.0 } else { (centre - half).max(0.0) },
            high: if self.failed() == 0 { 1.0 } else { (centre + half).min(1.0) },
        }
    }

    /// The central interval of the Beta posterior under Jeffreys' prior.
    pub fn beta(self, confidence: Confidence) -> Interval {
        let Ok(posterior) = Beta::new(self.passed as f64 + 0.5, self.failed() as f64 + 0.5) else {
            return Interval { low: 0.0, high: 1.0 };
        };
        let tail = (1.0 - confidence.0) / 2.0;
        Interval {
            low: if self.passed == 0 { 0.0 } else { posterior.inverse_cdf(tail) },
            high: if self.failed() == 0 { 1.0 } else { posterior.inverse_cdf(1.0 - tail) },
        }
    }

    /// Whether it is sure (by Wilson's upper end) that the rate is below `threshold`.
    pub fn consistently_fails(self, threshold: f64, confidence: Confidence) -> bool {
        self.tries > 0 && self.wilson(confidence).high < threshold
    }

    /// Whether it is sure (by Wilson's lower end) that the rate is above `threshold`.
    pub fn consistently_passes(self, threshold: f64, confidence: Confidence) -> bool {
        self.tries > 0 && self.wilson(confidence).low > threshold
    }
}

/// Whose doing a failure was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// What was evaluated.
    Subject,
    /// It exceeded what it may use.
    Budget,
    /// A service or machine.
    Infrastructure,
    /// The request itself.
    Harness,
}

/// A rate as reported, and without what was not the subject's doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rates {
    /// Every evaluation counts.
    pub raw: Tally,
    /// Failures by infrastructure and harness are left out: not passes, not failures.
    pub attributed: Tally,
}

impl Rates {
    /// Counts one evaluation: none for one that passed.
    pub fn add(&mut self, failure: Option<Blame>) {
        let passed = u64::from(failure.is_none());
        self.raw = Tally { passed: self.raw.passed + passed, tries: self.raw.tries + 1 };
        match failure {
            None | Some(Blame::Subject | Blame::Budget) => {
                let Tally { passed: before, tries } = self.attributed;
                self.attributed = Tally { passed: before + passed, tries: tries + 1 };
            }
            Some(Blame::Infrastructure | Blame::Harness) => {}
        }
    }
}

/// How two rates differ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Comparison {
    /// The second rate less the first, from -1 to 1.
    pub difference: f64,
    /// Where the true difference lies.
    pub interval: Interval,
    /// The two-sided probability of as much by chance.
    pub p: f64,
}

impl Comparison {
    /// Whether the second is surely worse.
    pub fn is_worse(&self) -> bool {
        self.interval.high < 0.0
    }
}

/// Compares two independent rates: Newcombe's interval and Fisher's exact test. None if one has no tries.
pub fn unpaired(first: Tally, second: Tally, confidence: Confidence) -> Option<Comparison> {
    let (rate, other) = (first.rate()?, second.rate()?);
    let difference = other - rate;
    let (one, two) = (first.wilson(confidence), second.wilson(confidence));
    let interval = Interval {
        low: difference - (other - two.low).hypot(one.high - rate),
        high: difference + (two.high - other).hypot(rate - one.low),
    };
    Some(Comparison { difference, interval, p: fisher(first, second) })
}

/// Fisher's exact test, two-sided: all tables at most as probable as this one.
pub fn fisher(first: Tally, second: Tally) -> f64 {
    let (row, other) = (first.tries, second.tries);
    let passed = first.passed + second.passed;
    let log_probability =
        |cell: u64| ln_choose(row, cell) + ln_choose(other, passed - cell) - ln_choose(row + other, passed);
    let here = log_probability(first.passed);
    let cells = passed.saturating_sub(other)..=passed.min(row);
    let p: f64 = cells.map(log_probability).filter(|there| *there <= here + 1e-7).map(f64::exp).sum();
    p.min(1.0)
}

/// Fisher's exact test, one-sided: how probable it is by chance that the second passes so much less often than the
/// first. 1 where one has no tries.
pub fn worse_by_chance(first: Tally, second: Tally) -> f64 {
    if first.tries == 0 || second.tries == 0 {
        return 1.0;
    }
    let (row, other) = (second.tries, first.tries);
    let passed = first.passed + second.passed;
    let probability = |cell: u64| {
        (ln_choose(row, cell) + ln_choose(other, passed - cell) - ln_choose(row + other, passed)).exp()
    };
    let fewest = passed.saturating_sub(other);
    (fewest..=second.passed).map(probability).sum::<f64>().min(1.0)
}

/// Answers to the same questions by two versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pairs {
    /// Both passed.
    pub both: u64,
    /// Only the first passed: lost.
    pub lost: u64,
    /// Only the second passed: gained.
    pub gained: u64,
    /// Neither passed.
    pub neither: u64,
}

impl Pairs {
    /// Counts one question.
    pub fn add(&mut self, first: bool, second: bool) {
        match (first, second) {
            (true, true) => self.both += 1,
            (true, false) => self.lost += 1,
            (false, true) => self.gained += 1,
            (false, false) => self.neither += 1,
        }
    }

    /// How many questions.
    pub fn count(self) -> u64 {
        self.both + self.lost + self.gained + self.neither
    }

    /// McNemar's exact test with Newcombe's interval for paired rates (his method 10, without the
    /// continuity correction). None without questions.
    pub fn compare(self, confidence: Confidence) -> Option<Comparison> {
        let count = self.count();
        let first = Tally { passed: self.both + self.lost, tries: count };
        let second = Tally { passed: self.both + self.gained, tries: count };
        let (rate, other) = (first.rate()?, second.rate()?);
        let (one, two) = (first.wilson(confidence), second.wilson(confidence));
        let product = [first.passed, first.failed(), second.passed, second.failed()]
            .map(|count| count as f64)
            .iter()
            .product::<f64>();
        let (both, lost, gained, neither) =
            (self.both as f64, self.lost as f64, self.gained as f64, self.neither as f64);
        let correlation = if product > 0.0 { (both * neither - lost * gained) / product.sqrt() } else { 0.0 };
        let reach = |first: f64, second: f64| {
            (first * first + second * second - 2.0 * correlation * first * second).max(0.0).sqrt()
        };
        let difference = other - rate;
        let interval = Interval {
            low: difference - reach(one.high - rate, other - two.low),
            high: difference + reach(rate - one.low, two.high - other),
        };
        Some(Comparison { difference, interval, p: mcnemar(self.lost, self.gained) })
    }
}

/// Two-sided probability that of `lost + gained` fair coins as many or more fall to one side.
pub fn mcnemar(lost: u64, gained: u64) -> f64 {
    let (count, fewer) = (lost + gained, lost.min(gained));
    let log_half = 0.5_f64.ln() * count as f64;
    let tail: f64 = (0..=fewer).map(|heads| (ln_choose(count, heads) + log_half).exp()).sum();
    (2.0 * tail).min(1.0)
}

fn ln_choose(of: u64, take: u64) -> f64 {
    let [all, taken, rest] = [of, take, of - take].map(|count| ln_gamma(count as f64 + 1.0));
    all - taken - rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(a: f64, b: f64, by: f64) -> bool {
        (a - b).abs() < by
    }

    #[test]
    fn one_side_of_fishers_test_is_the_ladys_tea() {
        let cups = |passed| Tally { passed, tries: 4 };
        assert!(near(worse_by_chance(cups(3), cups(1)), 17.0 / 70.0, 1e-9));
        assert!(near(worse_by_chance(cups(4), cups(0)), 1.0 / 70.0, 1e-9));
        // The other way round nothing is worse.
        assert!(near(worse_by_chance(cups(0), cups(4)), 1.0, 1e-9));
        assert!(near(worse_by_chance(Tally::default(), cups(0)), 1.0, 1e-9));
    }

    #[test]
    fn wilson_and_newcombe_as_in_newcombes_tables() {
        let confidence = Confidence::default();
        // Newcombe 1998a, table I: 81 of 263 and 15 of 148.
        let interval = Tally { passed: 81, tries: 263 }.wilson(confidence);
        assert!(near(interval.low, 0.2553, 1e-4) && near(interval.high, 0.3662, 1e-4), "{interval:?}");
        // Newcombe 1998b, table II: 56/70 less 48/80, method 10.
        let found = unpaired(Tally { passed: 48, tries: 80 }, Tally { passed: 56, tries: 70 }, confidence);
        let found = found.unwrap().interval;
        assert!(near(found.low, 0.0524, 1e-4) && near(found.high, 0.3339, 1e-4), "{found:?}");
    }

    #[test]
    fn exact_tests_on_known_tables() {
        // The lady tasting tea: 3 of 4 against 1 of 4.
        let p = fisher(Tally { passed: 3, tries: 4 }, Tally { passed: 1, tries: 4 });
        assert!(near(p, 0.485_714, 1e-6), "{p}");
        assert!(near(mcnemar(1, 9), 22.0 / 1024.0, 1e-12));
        assert_eq!(mcnemar(0, 0), 1.0);
    }

    #[test]
    fn what_fails_surely_and_what_only_seems_to() {
        let confidence = Confidence::default();
        assert!(Tally { passed: 0, tries: 10 }.consistently_fails(0.5, confidence));
        assert!(!Tally { passed: 0, tries: 2 }.consistently_fails(0.5, confidence));
        assert!(!Tally::default().consistently_fails(0.5, confidence));
        assert!(Tally { passed: 60, tries: 60 }.consistently_passes(0.9, confidence));
    }

    #[test]
    fn what_was_not_the_subjects_doing_counts_only_in_the_raw_rate() {
        let mut rates = Rates::default();
        for failure in [None, Some(Blame::Subject), Some(Blame::Infrastructure), Some(Blame::Harness)] {
            rates.add(failure);
        }
        assert_eq!(rates.raw, Tally { passed: 1, tries: 4 });
        assert_eq!(rates.attributed, Tally { passed: 1, tries: 2 });
    }

    #[test]
    fn pairs_see_what_rates_alone_do_not() {
        let pairs = Pairs { both: 40, lost: 10, gained: 0, neither: 10 };
        let paired = pairs.compare(Confidence::default()).unwrap();
        assert!(paired.is_worse() && paired.p < 0.01);
        let apart =
            unpaired(Tally { passed: 50, tries: 60 }, Tally { passed: 40, tries: 60 }, Confidence::default());
        assert!(apart.unwrap().p > 0.04);
    }

    proptest! {
        #[test]
        fn intervals_hold_the_rate_and_stay_within_0_and_1(tries in 1_u64..2000, share in 0.0_f64..=1.0) {
            let tally = Tally { passed: (tries as f64 * share) as u64, tries };
            let rate = tally.rate().unwrap();
            for interval in [tally.wilson(Confidence::default()), tally.beta(Confidence::default())] {
                prop_assert!(0.0 <= interval.low && interval.high <= 1.0);
                prop_assert!(interval.low <= rate + 1e-9 && rate <= interval.high + 1e-9);
            }
        }

        #[test]
        fn probabilities_are_probabilities(a in 0_u64..40, b in 0_u64..40, c in 1_u64..40, d in 1_u64..40) {
            let p = fisher(Tally { passed: a.min(c), tries: c }, Tally { passed: b.min(d), tries: d });
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert!((0.0..=1.0).contains(&mcnemar(a, b)));
        }
    }
}
