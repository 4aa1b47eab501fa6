//! Whether a worker is drained: pure. The last word that is meant for it stands.
//!
//! It stands as long as the log keeps it: a worker that starts two days after it was said does not hear of it.

use evalfleet_proto::control::{Control, REASON_CHARS_MAX};
use evalfleet_proto::ids::WorkerId;
use std::sync::Arc;

/// Why a worker takes no jobs, in a sentence.
pub type Why = Arc<str>;

/// What one worker has been told.
#[derive(Debug)]
pub(super) struct Drained {
    worker: WorkerId,
    why: Option<Why>,
}

impl Drained {
    /// Nothing yet.
    pub(super) fn new(worker: WorkerId) -> Self {
        Self { worker, why: None }
    }

    /// Takes note of a word, in the order in which they were said; tells whether it was about this.
    pub(super) fn note(&mut self, word: &Control) -> bool {
        let (whom, why) = match word {
            Control::Drain { worker, reason } => {
                let reason: Option<String> =
                    reason.as_ref().map(|reason| reason.chars().take(REASON_CHARS_MAX).collect());
                (worker, Some(Why::from(reason.as_deref().unwrap_or("no reason was given"))))
            }
            Control::Resume { worker } => (worker, None),
            Control::Cancel { .. }
            | Control::CancelBatch { .. }
            | Control::Mark { .. }
            | Control::Unknown => {
                return false;
            }
        };
        let mine = whom.as_ref().is_none_or(|whom| *whom == self.worker);
        if mine {
            self.why = why;
        }
        mine
    }

    /// Why it takes none, if it is drained.
    pub(super) fn why(&self) -> Option<&Why> {
        self.why.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn worker(name: &str) -> WorkerId {
        name.parse().unwrap()
    }

    fn drain(whom: Option<&str>, reason: Option<&str>) -> Control {
        Control::Drain { worker: whom.map(worker), reason: reason.map(str::to_owned) }
    }

    fn resume(whom: Option<&str>) -> Control {
        Control::Resume { worker: whom.map(worker) }
    }

    #[test]
    fn the_last_word_that_is_meant_for_it_stands() {
        let mut one = Drained::new(worker("one"));
        assert!(!one.note(&drain(Some("two"), None)) && one.why().is_none());
        assert!(one.note(&drain(Some("one"), Some("its disk fails"))));
        assert_eq!(one.why().map(|why| &**why), Some("its disk fails"));
        assert!(!one.note(&resume(Some("two"))) && one.why().is_some());
        assert!(one.note(&resume(None)) && one.why().is_none());
        assert!(one.note(&drain(None, None)) && one.why().is_some());
    }

    #[test]
    fn a_reason_is_cut_at_its_bound() {
        let mut one = Drained::new(worker("one"));
        one.note(&drain(None, Some(&"x".repeat(10_000))));
        assert_eq!(one.why().unwrap().len(), REASON_CHARS_MAX);
    }

    proptest! {
        #[test]
        fn words_to_others_change_nothing(words in prop::collection::vec((0_u8..3, any::<bool>()), 0..50)) {
            let named = |whom: u8| ["one", "two"].get(usize::from(whom)).copied();
            let mut one = Drained::new(worker("one"));
            let mut expected = false;
            for (whom, whether) in words {
                let word = if whether { drain(named(whom), None) } else { resume(named(whom)) };
                one.note(&word);
                if whom != 1 {
                    expected = whether;
                }
                prop_assert_eq!(one.why().is_some(), expected);
            }
        }
    }
}
