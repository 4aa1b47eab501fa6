//! Proof that a message may be forgotten by the broker.

use evalfleet_broker::Confirmed;
use evalfleet_datomic::Transacted;

/// That a message is in the history, or, where the history refuses it for good, among the dead letters.
///
/// There are only these ways to make one: to acknowledge a result otherwise does not compile.
#[derive(Debug)]
pub struct Recorded(());

impl Recorded {
    /// A committed transaction holds it.
    pub fn committed(_: &Transacted) -> Self {
        Self(())
    }

    /// It is about a dead letter, and that still lies among the dead, whatever the history knows of it.
    pub(crate) fn among_the_dead() -> Self {
        Self(())
    }

    /// A dead letter holds it.
    pub fn buried(_: &Confirmed) -> Self {
        Self(())
    }
}
