//! What a run uses, and how much of a difference measuring and machines make by themselves. Pure.
//!
//! Where the same question was asked often enough in the same image on the same accelerator, its own past says what is
//! usual: from its least to its most, and four robust standard deviations around its median. Elsewhere a figure may be
//! twice as much or half as much (times: three times). On top of both is a floor below which nothing is a difference.
//!
//! Times never make a divergence: they are as much the machine's as the subject's.

use evalfleet_proto::evaluation::Metrics;
use serde::Serialize;

/// Runs of the same question from which on they say what is usual.
pub const RUNS_MIN: usize = 5;
/// How many robust standard deviations around the median are usual.
const DEVIATIONS: f64 = 4.0;
/// What turns a median absolute deviation into a standard deviation, for normal values.
const MAD_TO_DEVIATION: f64 = 1.482_602_218_505_602;
const MIB: f64 = 1024.0 * 1024.0;

/// A figure of a run.
struct Figure {
    name: &'static str,
    of: fn(&Metrics) -> f64,
    /// How many times as much it may be where nothing is known.
    factor: f64,
    /// What is no difference, whatever the factor.
    floor: f64,
    /// Whether it is a time.
    time: bool,
}

/// All of them, as documents name them.
const FIGURES: [Figure; 7] = [
    Figure {
        name: "memory_peak_bytes",
        of: |used| used.memory_peak_bytes as f64,
        factor: 2.0,
        floor: 16.0 * MIB,
        time: false,
    },
    Figure {
        name: "disk_read_bytes",
        of: |used| used.disk_read_bytes as f64,
        factor: 2.0,
        floor: 16.0 * MIB,
        time: false,
    },
    Figure {
        name: "disk_written_bytes",
        of: |used| used.disk_written_bytes as f64,
        factor: 2.0,
        floor: 4.0 * MIB,
        time: false,
    },
    Figure {
        name: "net_rx_bytes",
        of: |used| used.net_rx_bytes as f64,
        factor: 2.0,
        floor: MIB / 16.0,
        time: false,
    },
    Figure {
        name: "net_tx_bytes",
        of: |used| used.net_tx_bytes as f64,
        factor: 2.0,
        floor: MIB / 16.0,
        time: false,
    },
    Figure {
        name: "cpu_ms",
        of: |used| ms(used.cpu_user + used.cpu_system),
        factor: 3.0,
        floor: 250.0,
        time: true,
    },
    Figure { name: "wall_ms", of: |used| ms(used.wall), factor: 3.0, floor: 500.0, time: true },
];

fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// One figure of both runs, and what is usual.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Which, with its unit.
    pub metric: &'static str,
    /// What the recorded run used.
    pub before: f64,
    /// What this one used.
    pub now: f64,
    /// The least that is usual.
    pub least: f64,
    /// The most that is usual.
    pub most: f64,
    /// The runs that this rests on; 0 for the bound that holds where too few are known.
    pub runs: usize,
    /// Whether it is beyond what is usual.
    pub outside: bool,
    /// Whether it is a time, which is told and decides nothing.
    pub time: bool,
}

/// Holds what two runs used against each other and against what earlier runs of the same used.
pub fn measure(before: &Metrics, now: &Metrics, earlier: &[Metrics]) -> Vec<Measured> {
    FIGURES.iter().map(|figure| figure.measure(before, now, earlier)).collect()
}

impl Figure {
    fn measure(&self, before: &Metrics, now: &Metrics, earlier: &[Metrics]) -> Measured {
        let (was, is) = ((self.of)(before), (self.of)(now));
        let mut values: Vec<f64> = earlier.iter().map(self.of).collect();
        let (least, most) = if values.len() >= RUNS_MIN {
            values.push(was);
            usual(&mut values)
        } else {
            values.clear();
            (was / self.factor, was * self.factor)
        };
        let (least, most) = ((least - self.floor).max(0.0), most + self.floor);
        Measured {
            metric: self.name,
            before: was,
            now: is,
            least,
            most,
            runs: values.len(),
            outside: is < least || is > most,
            time: self.time,
        }
    }
}

/// The least and the most that is usual among `values`, of which there are some.
fn usual(values: &mut [f64]) -> (f64, f64) {
    let centre = median(values);
    let (least, most) = (values[0], values[values.len() - 1]);
    let mut distances: Vec<f64> = values.iter().map(|value| (value - centre).abs()).collect();
    let deviation = median(&mut distances) * MAD_TO_DEVIATION * DEVIATIONS;
    (least.min(centre - deviation), most.max(centre + deviation))
}

/// The median; sorts the values.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn used(memory_mib: u64, wall_ms: u64) -> Metrics {
        Metrics {
            memory_peak_bytes: memory_mib << 20,
            wall: Duration::from_millis(wall_ms),
            ..Metrics::default()
        }
    }

    fn outside(before: &Metrics, now: &Metrics, earlier: &[Metrics]) -> Vec<&'static str> {
        let measured = measure(before, now, earlier);
        measured.into_iter().filter(|figure| figure.outside).map(|figure| figure.metric).collect()
    }

    #[test]
    fn where_nothing_is_known_a_bound_holds() {
        assert_eq!(outside(&used(100, 1000), &used(215, 3400), &[]), [""; 0]);
        assert_eq!(outside(&used(100, 1000), &used(217, 3600), &[]), ["memory_peak_bytes", "wall_ms"]);
        assert_eq!(outside(&used(100, 4000), &used(33, 800), &[]), ["memory_peak_bytes", "wall_ms"]);
        // Next to nothing, and nothing: no difference.
        assert_eq!(outside(&used(0, 0), &used(15, 400), &[]), [""; 0]);
        let times: Vec<_> =
            measure(&used(0, 0), &used(0, 0), &[]).into_iter().filter(|one| one.time).collect();
        assert_eq!(times.iter().map(|one| one.metric).collect::<Vec<_>>(), ["cpu_ms", "wall_ms"]);
    }

    #[test]
    fn what_is_usual_is_known_from_enough_runs() {
        let steady = [100, 101, 99, 100, 102].map(|memory| used(memory, 1000));
        assert_eq!(outside(&used(100, 1000), &used(117, 1000), &steady), [""; 0]);
        assert_eq!(outside(&used(100, 1000), &used(150, 1000), &steady), ["memory_peak_bytes"]);
        assert_eq!(outside(&used(100, 1000), &used(150, 1000), &steady[..4]), [""; 0], "too few");
        let restless = [100, 300, 150, 250, 200].map(|memory| used(memory, 1000));
        assert_eq!(outside(&used(100, 1000), &used(450, 1000), &restless), [""; 0]);
    }
}
