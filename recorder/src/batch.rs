//! When a batch is due: when it has enough, or is large enough, or is old enough. Pure.

use std::time::{Duration, Instant};

/// The bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Items.
    pub count: usize,
    /// Bytes of all items together.
    pub bytes: u64,
    /// Since its first item.
    pub age: Duration,
}

/// Items on their way into one transaction.
#[derive(Debug)]
pub struct Batch<T> {
    bounds: Bounds,
    items: Vec<T>,
    bytes: u64,
    begun: Option<Instant>,
}

impl<T> Batch<T> {
    /// An empty batch.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, items: Vec::new(), bytes: 0, begun: None }
    }

    /// Takes an item in.
    pub fn push(&mut self, item: T, bytes: u64, now: Instant) {
        self.items.push(item);
        self.bytes += bytes;
        self.begun.get_or_insert(now);
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether it should not wait for more, whatever its age.
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.bounds.count || self.bytes >= self.bounds.bytes
    }

    /// When it is due even if nothing comes any more; never, while it is empty.
    pub fn due(&self) -> Option<Instant> {
        self.begun.map(|begun| begun + self.bounds.age)
    }

    /// What it holds, in the order in which it came.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// Gives the items and is empty again.
    pub fn take(&mut self) -> Vec<T> {
        (self.bytes, self.begun) = (0, None);
        std::mem::take(&mut self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { count: 3, bytes: 100, age: Duration::from_millis(50) };

    #[test]
    fn it_is_due_by_count_by_bytes_and_by_age() {
        let now = Instant::now();
        let mut batch = Batch::new(BOUNDS);
        assert_eq!(batch.due(), None);
        batch.push('a', 10, now);
        batch.push('b', 10, now + Duration::from_millis(20));
        assert_eq!((batch.is_full(), batch.due()), (false, Some(now + BOUNDS.age)));
        batch.push('c', 10, now);
        assert!(batch.is_full());
        assert_eq!(batch.take(), ['a', 'b', 'c']);
        batch.push('d', 100, now);
        assert!(batch.is_full());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_order_is_changed(sizes in prop::collection::vec(0u64..60, 0..200)) {
            let now = Instant::now();
            let (mut batch, mut out) = (Batch::new(BOUNDS), Vec::new());
            for (number, bytes) in sizes.iter().enumerate() {
                batch.push(number, *bytes, now);
                if batch.is_full() {
                    let items = batch.take();
                    prop_assert!(items.len() <= BOUNDS.count);
                    out.extend(items);
                }
            }
            out.extend(batch.take());
            prop_assert_eq!(out, (0..sizes.len()).collect::<Vec<_>>());
        }
    }
}
