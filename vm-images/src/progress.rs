//! How a build tells its caller where it is.

use std::time::Duration;

/// The steps of a build, in order. A step whose result is at hand is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Looks for programs, keys and space.
    Preconditions,
    /// Reads the recipe and everything it names, and compares it with the image that is there.
    Inputs,
    /// Bootstraps Debian and packs the root. Nearly all of the time goes here.
    Root,
    /// Takes the kernel and its modules out of their package.
    Kernel,
    /// Formats the scratch disk.
    Scratch,
    /// Writes the initramfs.
    Initramfs,
    /// Hashes everything and puts the image in its place.
    Publish,
}

impl Step {
    /// What people read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preconditions => "check the host",
            Self::Inputs => "compare with what is there",
            Self::Root => "build the root",
            Self::Kernel => "unpack the kernel",
            Self::Scratch => "format the scratch disk",
            Self::Initramfs => "write the initramfs",
            Self::Publish => "publish",
        }
    }
}

/// What happened in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    Started,
    /// Roughly how much of the step is done, 0 to 100, never falling.
    Percent(u8),
    /// A line that a program of the step wrote.
    Line(&'a str),
    /// The step's result was at hand.
    Skipped,
    Finished(Duration),
}

/// Where a build's progress goes. Called on the thread that builds; it should return soon.
pub type Listener<'a> = &'a mut dyn FnMut(Step, Event<'_>);
