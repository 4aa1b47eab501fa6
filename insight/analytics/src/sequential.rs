//! Success rates watched live: an alarm as soon as enough failed, with the price in false alarms known.
//!
//! [`Cusum`] is Page's cumulative sum (Biometrika 41, 1954) of Bernoulli log-likelihood ratios (Reynolds &
//! Stoumbos, Journal of Quality Technology 31, 1999): it finds a drop from one known rate to another soonest
//! among all tests with as few false alarms (Moustakides, Annals of Statistics 14, 1986). Its threshold
//! trades one for the other. By itself it raises suspicions; [`Sprt`] (Wald, *Sequential Analysis*, 1947)
//! confirms or dismisses one on reruns, and bounds the error of that.
//!
//! A point costs constant time and memory.

use serde::Serialize;

/// The two rates told apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    good: f64,
    bad: f64,
}

impl Rates {
    /// None unless `0 < bad < good < 1`.
    pub fn new(good: f64, bad: f64) -> Option<Self> {
        (0.0 < bad && bad < good && good < 1.0).then_some(Self { good, bad })
    }

    /// The good one.
    pub fn good(self) -> f64 {
        self.good
    }

    /// The bad one.
    pub fn bad(self) -> f64 {
        self.bad
    }

    /// How much one outcome speaks for the bad rate: a log-likelihood ratio.
    fn weight(self, passed: bool) -> f64 {
        if passed { (self.bad / self.good).ln() } else { ((1.0 - self.bad) / (1.0 - self.good)).ln() }
    }
}

/// A cumulative sum that starts anew whenever it is at rest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cusum {
    rates: Rates,
    threshold: f64,
    sum: f64,
    since: u64,
}

/// A suspicion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Suspicion {
    /// How many evaluations ago the drop began, by its most likely beginning.
    pub evaluations_ago: u64,
}

impl Cusum {
    /// Watches for a drop. `threshold` (above 0, natural log units) is what the sum must reach.
    ///
    /// For 0.95 and 0.80, `bench/results/analytics.txt` has what 3 to 10 give. At 4.5 nine in ten drops are
    /// found within 60 evaluations and fewer than one in a thousand clean evaluations raises a suspicion; but
    /// nearly every run of 10,000 clean ones has some. No threshold finds nine in ten that soon and leaves
    /// 99 of 100 such runs in peace: that is what [`Sprt`] is for.
    pub fn new(rates: Rates, threshold: f64) -> Self {
        Self { rates, threshold, sum: 0.0, since: 0 }
    }

    /// Takes one evaluation. A suspicion starts the sum anew.
    pub fn push(&mut self, passed: bool) -> Option<Suspicion> {
        self.sum += self.rates.weight(passed);
        self.since += 1;
        if self.sum <= 0.0 {
            (self.sum, self.since) = (0.0, 0);
        }
        (self.sum >= self.threshold).then(|| {
            let suspicion = Suspicion { evaluations_ago: self.since };
            (self.sum, self.since) = (0.0, 0);
            suspicion
        })
    }

    /// The sum so far, from 0 up to the threshold.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// What reruns decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The rate is bad.
    Confirmed,
    /// The rate is good.
    Dismissed,
}

/// Wald's sequential test between the two rates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sprt {
    rates: Rates,
    upper: f64,
    lower: f64,
    sum: f64,
}

impl Sprt {
    /// `false_confirm` and `false_dismiss` bound (approximately, as Wald's limits do) the probability of
    /// confirming a good rate and of dismissing a bad one. None unless both are between 0 and 0.5.
    pub fn new(rates: Rates, false_confirm: f64, false_dismiss: f64) -> Option<Self> {
        let sane = |error: f64| error > 0.0 && error < 0.5;
        (sane(false_confirm) && sane(false_dismiss)).then(|| Self {
            rates,
            upper: ((1.0 - false_dismiss) / false_confirm).ln(),
            lower: (false_dismiss / (1.0 - false_confirm)).ln(),
            sum: 0.0,
        })
    }

    /// Takes one rerun.
    pub fn push(&mut self, passed: bool) -> Option<Decision> {
        self.sum += self.rates.weight(passed);
        if self.sum >= self.upper {
            Some(Decision::Confirmed)
        } else if self.sum <= self.lower {
            Some(Decision::Dismissed)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;

    fn rates() -> Rates {
        Rates::new(0.95, 0.8).unwrap()
    }

    #[test]
    fn failures_in_a_row_raise_a_suspicion_that_says_when_they_began() {
        let mut cusum = Cusum::new(rates(), 4.0);
        assert!((0..50).all(|_| cusum.push(true).is_none()));
        assert_eq!([(); 3].map(|()| cusum.push(false)), [None, None, Some(Suspicion { evaluations_ago: 3 })]);
        assert_eq!(cusum.sum(), 0.0);
    }

    #[test]
    fn reruns_keep_to_their_errors() {
        let mut noise = Noise::new(9);
        let mut confirmed = |rate: f64| {
            let ends = (0..2000).filter(|_| {
                let mut sprt = Sprt::new(rates(), 0.01, 0.05).unwrap();
                loop {
                    if let Some(decision) = sprt.push(noise.chance(rate)) {
                        break decision == Decision::Confirmed;
                    }
                }
            });
            ends.count()
        };
        assert!(confirmed(0.95) <= 30, "more than 1.5 % of good rates were confirmed as bad");
        assert!(confirmed(0.8) >= 1860, "more than 7 % of bad rates were dismissed");
    }

    #[test]
    fn rates_the_wrong_way_round_are_refused() {
        assert_eq!(Rates::new(0.8, 0.95), None);
        assert_eq!(Rates::new(1.0, 0.5), None);
        assert_eq!(Sprt::new(rates(), 0.0, 0.1), None);
    }

    proptest! {
        #[test]
        fn the_sum_stays_between_rest_and_threshold(outcomes in prop::collection::vec(any::<bool>(), 0..500)) {
            let mut cusum = Cusum::new(rates(), 5.0);
            for passed in outcomes {
                cusum.push(passed);
                prop_assert!((0.0..5.0).contains(&cusum.sum()));
            }
        }
    }
}
