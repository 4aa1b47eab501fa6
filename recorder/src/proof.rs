//! Proof that a result may be forgotten by the broker.

use evalfleet_broker::Confirmed;
use evalfleet_datomic::Transacted;

/// That a result is in the history, or, where the history refuses it for good, among the dead letters.
///
/// There are only these two ways to make one: to acknowledge a result otherwise does not compile.
#[derive(Debug)]
pub struct Recorded(());

impl Recorded {
    /// A committed transaction holds it.
    pub fn committed(_: &Transacted) -> Self {
        Self(())
    }

    /// A dead letter holds it.
    pub fn buried(_: &Confirmed) -> Self {
        Self(())
    }
}
