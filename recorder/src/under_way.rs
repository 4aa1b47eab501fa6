//! Batches on their way into the history: a few at once, and never two about the same thing.
//!
//! While one is committed, the next is encoded, its documents are kept and it is sent. What is about the same job
//! waits for what came before it, so that facts about one thing are written in the order in which they came.

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use std::collections::HashSet;
use std::hash::Hash;

/// What is being written, each with what it is about.
pub(crate) struct UnderWay<'w, S, R> {
    at_once: usize,
    about: HashSet<S>,
    writing: FuturesUnordered<BoxFuture<'w, (Vec<S>, R)>>,
}

impl<'w, S: Hash + Eq + Copy + Send + 'w, R: 'w> UnderWay<'w, S, R> {
    /// Room for `at_once`, 1 or more.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { at_once, about: HashSet::new(), writing: FuturesUnordered::new() }
    }

    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.writing.is_empty()
    }

    /// Whether there is room for one more, and nothing under way is about any of `about`.
    pub(crate) fn admits(&self, mut about: impl Iterator<Item = S>) -> bool {
        self.writing.len() < self.at_once && !about.any(|subject| self.about.contains(&subject))
    }

    /// Begins to write; whoever does saw that it is admitted.
    pub(crate) fn begin(&mut self, about: Vec<S>, write: impl Future<Output = R> + Send + 'w) {
        self.about.extend(about.iter().copied());
        self.writing.push(Box::pin(async move { (about, write.await) }));
    }

    /// Writes on until one is done, and gives what came of it; `None` when nothing is under way. May be dropped and
    /// asked again.
    pub(crate) async fn next(&mut self) -> Option<R> {
        let (about, done) = self.writing.next().await?;
        for subject in &about {
            self.about.remove(subject);
        }
        Some(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// What ended, in that order: its number, and what it was about.
    type Ended = Arc<Mutex<Vec<(usize, Vec<u8>)>>>;

    proptest! {
        /// However long each takes: no two about the same at once, no more than there is room for, and what is
        /// about the same ends in the order in which it came.
        #[test]
        fn what_is_about_the_same_keeps_its_order(
            batches in prop::collection::vec((prop::collection::vec(0u8..12, 1..4), 0u64..50), 1..40),
            at_once in 1usize..4,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let ended = Ended::default();
            let most = runtime.block_on(async {
                let (mut under_way, mut most) = (UnderWay::new(at_once), 0);
                for (number, (about, millis)) in batches.iter().cloned().enumerate() {
                    while !under_way.admits(about.iter().copied()) {
                        under_way.next().await.expect("whoever waits, waits for something");
                    }
                    let (ended, told) = (ended.clone(), about.clone());
                    under_way.begin(about, async move {
                        tokio::time::sleep(Duration::from_millis(millis)).await;
                        ended.lock().unwrap().push((number, told));
                    });
                    most = most.max(under_way.writing.len());
                }
                while under_way.next().await.is_some() {}
                assert!(under_way.is_empty() && under_way.about.is_empty());
                most
            });
            prop_assert!(most <= at_once);
            let ended = ended.lock().unwrap();
            prop_assert_eq!(ended.len(), batches.len());
            for subject in 0..12 {
                let order: Vec<usize> =
                    ended.iter().filter(|(_, about)| about.contains(&subject)).map(|(number, _)| *number).collect();
                prop_assert!(order.is_sorted(), "{subject}: {order:?}");
            }
        }
    }
}
