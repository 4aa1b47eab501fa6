//! A drop from 0.95 to 0.80, watched live: how soon it is suspected, how often without cause, and what
//! reruns make of that.

use crate::noise::Noise;
use anyhow::{Context, Result};
use evalfleet_analytics::sequential::{Cusum, Decision, Rates, Sprt};
use std::time::{Duration, Instant};

const GOOD: f64 = 0.95;
const BAD: f64 = 0.80;
/// Clean evaluations before the drop, and in a clean run.
const BEFORE: usize = 200;
pub(crate) const CLEAN: usize = 10_000;
/// A drop is to be seen within these.
pub(crate) const WITHIN: usize = 60;
/// What a confirmation may get wrong.
pub(crate) const FALSE_CONFIRM: f64 = 1e-4;
pub(crate) const FALSE_DISMISS: f64 = 0.02;

/// What one threshold gives.
pub(crate) struct Row {
    pub(crate) threshold: f64,
    /// Share of drops suspected within [`WITHIN`] evaluations.
    pub(crate) found: f64,
    /// Suspicions in [`CLEAN`] clean evaluations, on average.
    pub(crate) suspicions: f64,
    /// Share of clean runs with any suspicion.
    pub(crate) disturbed: f64,
    /// Share of drops suspected within [`WITHIN`] evaluations, and confirmed by reruns.
    pub(crate) confirmed: f64,
    /// Share of clean runs with any suspicion that reruns confirmed.
    pub(crate) alarmed: f64,
    /// Reruns that a confirmation of a real drop took, on average.
    pub(crate) reruns: f64,
}

/// Simulates one threshold.
pub(crate) fn row(threshold: f64, drops: u64, clean: u64) -> Result<Row> {
    let rates = Rates::new(GOOD, BAD).context("0.95 is above 0.80")?;
    let (mut found, mut confirmed, mut reruns) = (0_u32, 0_u32, 0_usize);
    for run in 0..drops {
        let mut noise = Noise::of(201, run);
        let mut cusum = Cusum::new(rates, threshold);
        for _ in 0..BEFORE {
            cusum.push(noise.chance(GOOD));
        }
        let (mut suspected, mut sure) = (false, false);
        for _ in 0..WITHIN {
            if cusum.push(noise.chance(BAD)).is_some() && !sure {
                suspected = true;
                let (decision, took) = rerun(rates, BAD, &mut noise)?;
                sure = decision == Decision::Confirmed;
                reruns += took;
            }
        }
        found += u32::from(suspected);
        confirmed += u32::from(sure);
    }
    let (mut suspicions, mut disturbed, mut alarmed) = (0_u32, 0_u32, 0_u32);
    for run in 0..clean {
        let mut noise = Noise::of(202, run);
        let mut cusum = Cusum::new(rates, threshold);
        let (mut here, mut alarm) = (0, false);
        for _ in 0..CLEAN {
            if cusum.push(noise.chance(GOOD)).is_some() {
                here += 1;
                alarm |= rerun(rates, GOOD, &mut noise)?.0 == Decision::Confirmed;
            }
        }
        suspicions += here;
        disturbed += u32::from(here > 0);
        alarmed += u32::from(alarm);
    }
    let (drops, clean) = (drops as f64, clean as f64);
    Ok(Row {
        threshold,
        found: f64::from(found) / drops,
        suspicions: f64::from(suspicions) / clean,
        disturbed: f64::from(disturbed) / clean,
        confirmed: f64::from(confirmed) / drops,
        alarmed: f64::from(alarmed) / clean,
        reruns: reruns as f64 / f64::from(found.max(1)),
    })
}

fn rerun(rates: Rates, truth: f64, noise: &mut Noise) -> Result<(Decision, usize)> {
    let mut sprt = Sprt::new(rates, FALSE_CONFIRM, FALSE_DISMISS).context("both errors are below 0.5")?;
    let mut took = 0;
    // The sum of a walk with drift leaves every interval.
    loop {
        took += 1;
        if let Some(decision) = sprt.push(noise.chance(truth)) {
            return Ok((decision, took));
        }
    }
}

/// What one point costs.
pub(crate) fn point() -> Result<Duration> {
    let points = 1_000_000;
    let mut noise = Noise::of(203, 0);
    let mut cusum = Cusum::new(Rates::new(GOOD, BAD).context("0.95 is above 0.80")?, 4.0);
    let outcomes: Vec<bool> = (0..points).map(|_| noise.chance(GOOD)).collect();
    let start = Instant::now();
    let suspicions = outcomes.iter().filter(|passed| cusum.push(**passed).is_some()).count();
    std::hint::black_box(suspicions);
    Ok(start.elapsed() / points)
}
