//! What a change uses against its base, with measuring's own noise taken into account. Pure.

use super::looks::{Looks, Seen};
use super::suite::{self, Budgets};
use super::violation::Violation;
use serde::{Deserialize, Serialize};

/// Seconds that are no matter, whatever the factor: a base of milliseconds has no ratio worth the name.
const SECONDS_FLOOR: f64 = 3.0;
/// Bytes of memory that are no matter.
const MEMORY_FLOOR: f64 = 32.0 * MIB;
/// Bytes of what is built that are no matter: what the alignment of sections makes of nothing.
const BUILT_FLOOR: f64 = 4.0 * KIB;
const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// The rules about figures: what they find is measured again before it is believed.
const MEASURED: [&str; 4] = ["budget.build_time", "budget.test_time", "budget.memory", "budget.binary_size"];

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
        let seen = format!("base: {}; change: {} {unit}", list(&self.base), list(&self.change));
        Violation::new(&format!("budget.{name}"), message).seen(seen)
    }
}

/// The figures of base and change, out of all looks at each.
pub(super) fn figures(
    budgets: &Budgets,
    base: &[&Looks],
    change: &[&Looks],
) -> Result<Vec<Figure>, suite::Error> {
    let held = |name, unit, of: &dyn Fn(&Seen) -> f64, factor, floor| {
        Figure::new(name, unit, sample(base, of), sample(change, of), factor, floor)
    };
    let mut figures = vec![
        held("build_time", "s", &|seen| seen.seconds("build"), budgets.time, SECONDS_FLOOR),
        held("test_time", "s", &|seen| seen.seconds("test"), budgets.time, SECONDS_FLOOR),
        held("memory", "MiB", &|seen| seen.memory() as f64 / MIB, budgets.memory, MEMORY_FLOOR / MIB),
    ];
    if let Some(size) = &budgets.binary_size {
        let paths = suite::set(&size.paths)?;
        // What either look built: a small file for one of them alone helps nobody.
        let of = |looks: &&Looks| {
            let [judged, watched] = looks.both().map(|seen| seen.built(&paths));
            Some(judged?.max(watched?) as f64 / KIB)
        };
        let all = |looks: &[&Looks]| looks.iter().filter_map(of).collect();
        let floor = BUILT_FLOOR / KIB;
        figures.push(Figure::new(
            "binary_size",
            "KiB",
            all(base),
            all(change),
            size.grows_at_most.factor(),
            floor,
        ));
    }
    Ok(figures)
}

fn sample(all: &[&Looks], of: &dyn Fn(&Seen) -> f64) -> Vec<f64> {
    all.iter().flat_map(|looks| looks.both()).filter(|seen| seen.answer.is_some()).map(of).collect()
}

/// Why what a base builds cannot be measured, where its suite wants that.
pub(super) fn unmeasurable(budgets: &Budgets, base: &Looks) -> Option<String> {
    let size = budgets.binary_size.as_ref()?;
    let paths = suite::set(&size.paths).ok()?;
    let omitted: u64 = base.both().iter().map(|seen| seen.evaluation.effects_omitted).sum();
    if omitted > 0 {
        return Some(format!(
            "budgets.binary_size: what it builds is not listed whole, {omitted} effects are missing (worker.effects_max)"
        ));
    }
    let nothing = base.both().iter().any(|seen| seen.built(&paths) == Some(0));
    nothing.then(|| format!("budgets.binary_size: its build leaves nothing under {}", size.paths.join(", ")))
}

/// The violations of those that are exceeded, or that the change has no sample of though it ran.
pub(super) fn violations(figures: &[Figure], change: &[&Looks]) -> Vec<Violation> {
    let ran = change.iter().any(|looks| looks.both().iter().all(|seen| seen.answer.is_some()));
    let unseen = |figure: &Figure| ran && figure.change.is_empty() && !figure.base.is_empty();
    let judge = |figure: &Figure| {
        if unseen(figure) {
            let message = "it cannot be measured: the change leaves more files than are listed";
            return Some(Violation::new(&format!("budget.{}", figure.name), message));
        }
        figure.exceeded().then(|| figure.violation())
    };
    figures.iter().filter_map(judge).collect()
}

/// Whether this is about a figure, which another sample may show otherwise.
pub(super) fn is_measured(violation: &Violation) -> bool {
    MEASURED.contains(&violation.rule.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(base: &[f64], change: &[f64]) -> Figure {
        Figure::new("test_time", "s", base.to_vec(), change.to_vec(), 2.0, SECONDS_FLOOR)
    }

    #[test]
    fn noise_is_no_excess_and_an_excess_is_in_every_sample() {
        assert!(!time(&[1.0, 1.2], &[5.0, 6.0]).exceeded());
        assert!(time(&[1.0, 1.2], &[5.5, 6.0]).exceeded());
        assert!(!time(&[1.0, 1.2], &[5.5, 1.0]).exceeded());
        assert!(!time(&[], &[100.0]).exceeded() && !time(&[1.0], &[]).exceeded());
        let violation = violations(&[time(&[1.0], &[9.0])], &[]).remove(0);
        assert!(violation.is_budget() && is_measured(&violation), "{violation}");
        assert!(violation.message.contains("9.0 s at least") && violation.message.contains("5.0 s"));
    }
}
