//! What a change uses against its base, with measuring's own noise taken into account. Pure.

use super::looks::Looks;
use super::suite::Budgets;
use super::violation::Violation;
use serde::{Deserialize, Serialize};

/// Seconds that are no matter, whatever the factor: a base of milliseconds has no ratio worth the name.
const SECONDS_FLOOR: f64 = 3.0;
/// Bytes that are no matter.
const BYTES_FLOOR: f64 = 32.0 * 1024.0 * 1024.0;

/// One figure of base and change, all its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What is measured.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The base's samples.
    pub base: Vec<f64>,
    /// The change's.
    pub change: Vec<f64>,
    /// The most that the change may use by the base's samples.
    pub allowed: f64,
}

impl Figure {
    fn new(name: &str, unit: &str, base: Vec<f64>, change: Vec<f64>, factor: f64, floor: f64) -> Self {
        let most = base.iter().copied().fold(0.0, f64::max);
        Self { name: name.to_owned(), unit: unit.to_owned(), base, change, allowed: most * factor + floor }
    }

    /// Whether even the change's best sample is beyond what the base's worst one allows.
    pub fn exceeded(&self) -> bool {
        let least = self.change.iter().copied().fold(f64::INFINITY, f64::min);
        least.is_finite() && !self.base.is_empty() && least > self.allowed
    }

    fn violation(&self) -> Violation {
        let list = |samples: &[f64]| {
            samples.iter().map(|sample| format!("{sample:.1}")).collect::<Vec<_>>().join(", ")
        };
        let least = self.change.iter().copied().fold(f64::INFINITY, f64::min);
        let Self { name, unit, allowed, .. } = self;
        let message = format!("it takes {least:.1} {unit} at least, and the base allows {allowed:.1} {unit}");
        let seen = format!("base: {}; change: {}", list(&self.base), list(&self.change));
        Violation::new(&format!("budget.{name}"), message).seen(seen)
    }
}

/// The figures of base and change, out of all looks at each.
pub(super) fn figures(budgets: &Budgets, base: &[&Looks], change: &[&Looks]) -> Vec<Figure> {
    let mib = 1024.0 * 1024.0;
    let seconds = |all: &[&Looks]| sample(all, |seen| seen.seconds());
    let memory = |all: &[&Looks]| sample(all, |seen| seen.memory() as f64 / mib);
    vec![
        Figure::new("time", "s", seconds(base), seconds(change), budgets.time, SECONDS_FLOOR),
        Figure::new("memory", "MiB", memory(base), memory(change), budgets.memory, BYTES_FLOOR / mib),
    ]
}

fn sample(all: &[&Looks], of: impl Fn(&super::looks::Seen) -> f64) -> Vec<f64> {
    all.iter().flat_map(|looks| looks.both()).filter(|seen| seen.answer.is_some()).map(of).collect()
}

/// The violations of those that are exceeded.
pub(super) fn violations(figures: &[Figure]) -> Vec<Violation> {
    figures.iter().filter(|figure| figure.exceeded()).map(Figure::violation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(base: &[f64], change: &[f64]) -> Figure {
        Figure::new("time", "s", base.to_vec(), change.to_vec(), 2.0, SECONDS_FLOOR)
    }

    #[test]
    fn noise_is_no_excess_and_an_excess_is_in_every_sample() {
        assert!(!time(&[1.0, 1.2], &[5.0, 6.0]).exceeded());
        assert!(time(&[1.0, 1.2], &[5.5, 6.0]).exceeded());
        assert!(!time(&[1.0, 1.2], &[5.5, 1.0]).exceeded());
        assert!(!time(&[], &[100.0]).exceeded() && !time(&[1.0], &[]).exceeded());
        let violation = violations(&[time(&[1.0], &[9.0])]).remove(0);
        assert!(violation.is_budget() && violation.message.contains("9.0 s at least"), "{violation}");
    }
}
