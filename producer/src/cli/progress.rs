//! How far a command is that does one thing many times: on standard error, and only on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Below this many, a bar would be gone before anybody saw it.
const WORTH_SHOWING: usize = 20;

/// A bar with a count, a rate and the time that is left.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar for so many steps.
    pub(super) fn of(steps: usize) -> Self {
        if steps < WORTH_SHOWING {
            return Self(ProgressBar::hidden());
        }
        // It draws to standard error, and draws nothing where that is no terminal.
        let bar = ProgressBar::new(steps as u64);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {per_sec}  {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// One more is done.
    pub(super) fn step(&self) {
        self.0.inc(1);
    }

    /// So many are done.
    pub(super) fn at(&self, done: usize) {
        self.0.set_position(done as u64);
    }

    /// Does something that writes to the terminal, with the bar out of its way.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
