//! How long to wait before trying again: the one place that names the `backoff` crate.
//!
//! `backoff` is what the fleet was asked to use, and is no longer maintained; behind this module it can
//! be replaced in one place. Its growth is taken from it, the jitter is drawn here, from the thread's own
//! generator: one that is seeded makes the waits of a simulated run those of its replay.

use backoff::backoff::Backoff as _;
use std::time::Duration;

/// By how much of itself a wait may be shorter or longer, so that those who failed together do not all
/// come back together.
const JITTER: f64 = 0.5;

/// Growing, jittered waits, from 200 ms to `longest`, without end.
#[derive(Debug)]
pub struct Delays(backoff::ExponentialBackoff);

impl Delays {
    /// Waits that double from 200 ms up to `longest`.
    pub fn up_to(longest: Duration) -> Self {
        Self(backoff::ExponentialBackoff {
            initial_interval: Duration::from_millis(200).min(longest),
            current_interval: Duration::from_millis(200).min(longest),
            multiplier: 2.0,
            max_interval: longest,
            max_elapsed_time: None,
            randomization_factor: 0.0,
            ..backoff::ExponentialBackoff::default()
        })
    }

    /// The next wait.
    pub fn next_delay(&mut self) -> Duration {
        let wait = self.0.next_backoff().unwrap_or(self.0.max_interval);
        wait.mul_f64(fastrand::f64().mul_add(2.0 * JITTER, 1.0 - JITTER))
    }

    /// Starts over: the thing worked.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_start_over() {
        let mut delays = Delays::up_to(Duration::from_secs(2));
        let waits: Vec<_> = (0..12).map(|_| delays.next_delay()).collect();
        assert!(waits[0] <= Duration::from_millis(300));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(3)));
        assert!(waits[11] >= Duration::from_secs(1));
        delays.reset();
        assert!(delays.next_delay() <= Duration::from_millis(300));
    }
}
