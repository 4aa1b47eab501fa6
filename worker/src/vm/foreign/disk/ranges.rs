//! Sets of bytes of a disk.

use std::collections::BTreeMap;

/// Bytes, as ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds `bytes` bytes from `start` on.
    pub fn add(&mut self, start: u64, bytes: u64) {
        let (mut start, mut end) = (start, start.saturating_add(bytes));
        if start == end {
            return;
        }
        while let Some((&other, &other_end)) = self.0.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            start = start.min(other);
            end = end.max(other_end);
            self.0.remove(&other);
        }
        self.0.insert(start, end);
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Self) {
        for (start, end) in &other.0 {
            self.add(*start, end - start);
        }
    }

    /// Whether any of `bytes` bytes from `start` on is among them.
    pub fn touch(&self, start: u64, bytes: u64) -> bool {
        let end = start.saturating_add(bytes);
        bytes > 0 && self.0.range(..end).next_back().is_some_and(|(_, other_end)| *other_end > start)
    }

    /// The set as seen from `start` on, for `bytes` bytes.
    #[must_use]
    pub fn within(&self, start: u64, bytes: u64) -> Self {
        let mut inside = Self::default();
        let end = start.saturating_add(bytes);
        for (from, to) in &self.0 {
            let (from, to) = ((*from).max(start), (*to).min(end));
            if from < to {
                inside.add(from - start, to - from);
            }
        }
        inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_hold_what_was_added_and_nothing_else(
            added in prop::collection::vec((0u64..200, 0u64..30), 0..20),
            asked in 0u64..240,
        ) {
            let mut ranges = Ranges::default();
            for (start, bytes) in &added {
                ranges.add(*start, *bytes);
            }
            let within = added.iter().any(|(start, bytes)| (*start..start + bytes).contains(&asked));
            prop_assert_eq!(ranges.touch(asked, 1), within);
            prop_assert_eq!(ranges.within(asked, 1).touch(0, 1), within);
        }
    }
}
