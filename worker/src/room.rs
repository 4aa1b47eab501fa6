//! When there is room on the machine for work that nobody waits for yet.
//!
//! Making and warming a VM keeps a processor busy for a while. Where none is free, it and the jobs that run only slow each
//! other down, and whoever waits for these waits longer: so it is put off until a processor is free, but not for ever.
//! In a container that may use less than its host has, the host's processors count.

use std::time::Duration;

/// How long it is looked for processors at a time: `/proc/stat` counts hundredths of a second.
const GLANCE: Duration = Duration::from_millis(50);
/// How long work is put off at most.
const PUT_OFF_MAX: Duration = Duration::from_secs(3);
/// So much of one processor must have been idle.
const ROOM: f64 = 0.6;

/// What all processors did since the machine was started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
    processors: u64,
}

impl Ticks {
    fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// Reads proc_stat(5).
    fn parse(text: &str) -> Option<Self> {
        let spent: Vec<u64> = text
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            .map_while(|ticks| ticks.parse().ok())
            .collect();
        let is_one = |line: &&str| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
        };
        let processors = text.lines().filter(is_one).count() as u64;
        // Idle, and idle with somebody waiting for a disk; what guests took is in the first two already.
        let idle = spent.get(3)? + spent.get(4)?;
        Some(Self { idle, all: spent.iter().take(8).sum(), processors })
    }

    /// How many processors were idle since `before`; none where no time passed.
    fn idle_since(&self, before: &Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let idle = self.idle.saturating_sub(before.idle);
        Some(idle as f64 / all as f64 * self.processors as f64)
    }
}

/// Waits until there is room. Where nobody can tell, there is.
pub(crate) async fn found() {
    let looked = async {
        let mut before = Ticks::now()?;
        loop {
            tokio::time::sleep(GLANCE).await;
            let now = Ticks::now()?;
            if now.idle_since(&before).is_some_and(|idle| idle >= ROOM) {
                return Some(());
            }
            before = now;
        }
    };
    let _ = tokio::time::timeout(PUT_OFF_MAX, looked).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 50 0 25 400 25 0 0 0 7 0\ncpu1 50 0 25 400 25 0 0 0 0 0\nintr 1\n";

    #[test]
    fn idle_processors_are_counted() {
        let before = Ticks::parse(STAT).unwrap();
        assert_eq!(before, Ticks { idle: 850, all: 1000, processors: 2 });
        let after = |busy, idle| Ticks { idle: before.idle + idle, all: before.all + busy + idle, ..before };
        assert_eq!(after(5, 5).idle_since(&before), Some(1.0));
        assert_eq!(after(10, 0).idle_since(&before), Some(0.0));
        assert_eq!(before.idle_since(&before), None);
        assert_eq!(before.idle_since(&after(1, 1)), None, "a counter that went back says nothing");
        assert_eq!(Ticks::parse("cpu  1 2\n"), None);
        assert_eq!(Ticks::parse("intr 1\n"), None);
    }

    #[test]
    fn this_machine_tells() {
        let now = Ticks::now().expect("/proc/stat");
        assert!(now.processors > 0 && now.all >= now.idle);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_put_off_but_not_for_ever() {
        // The machine's own ticks stand still in this clock's time, so nothing ever seems idle.
        let begun = tokio::time::Instant::now();
        found().await;
        assert!(begun.elapsed() <= PUT_OFF_MAX);
    }
}
