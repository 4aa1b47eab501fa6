//! The texts of letters, each kept once: what a search asks of thousands of letters it asks of each text once. Pure.

use std::collections::HashMap;
use std::sync::Arc;

/// A text among [`Texts`], for as long as a letter has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text(u32);

#[derive(Debug, Default)]
struct Entry {
    text: Arc<str>,
    /// As a search for a part of it reads it.
    lowercase: Box<str>,
    letters: usize,
}

/// Every text that a letter has. What no letter has any more is forgotten, and its place used again.
#[derive(Debug, Default)]
pub(super) struct Texts {
    entries: Vec<Entry>,
    index: HashMap<Arc<str>, Text>,
    free: Vec<Text>,
}

impl Texts {
    /// One more letter has `text`.
    pub(super) fn enter(&mut self, text: &str) -> Text {
        if let Some(known) = self.index.get(text) {
            self.entries[known.0 as usize].letters += 1;
            return *known;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            Text(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
        });
        let shared: Arc<str> = text.into();
        self.entries[place.0 as usize] =
            Entry { text: shared.clone(), lowercase: text.to_lowercase().into(), letters: 1 };
        self.index.insert(shared, place);
        place
    }

    /// A letter has this text no longer.
    pub(super) fn leave(&mut self, text: Text) {
        let entry = &mut self.entries[text.0 as usize];
        entry.letters -= 1;
        if entry.letters == 0 {
            let gone = std::mem::take(entry);
            self.index.remove(&gone.text);
            self.free.push(text);
        }
    }

    /// The text that is exactly this, if a letter has it.
    pub(super) fn find(&self, text: &str) -> Option<Text> {
        self.index.get(text).copied()
    }

    /// Of every text, whether it has `part` in it, in any case of letters.
    pub(super) fn with(&self, part: &str) -> Having {
        let part = part.to_lowercase();
        Having(
            self.entries.iter().map(|entry| entry.letters > 0 && entry.lowercase.contains(&part)).collect(),
        )
    }
}

/// Which texts have something in them.
#[derive(Debug)]
pub(super) struct Having(Vec<bool>);

impl Having {
    pub(super) fn has(&self, text: Text) -> bool {
        self.0.get(text.0 as usize).is_some_and(|has| *has)
    }

    pub(super) fn none(&self) -> bool {
        !self.0.contains(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_goes_with_its_last_letter() {
        let mut texts = Texts::default();
        let (first, second) = (texts.enter("The Disk"), texts.enter("The Disk"));
        assert_eq!(first, second);
        assert!(texts.with("dISK").has(first));
        texts.leave(first);
        assert_eq!(texts.find("The Disk"), Some(second));
        texts.leave(second);
        assert_eq!(texts.find("The Disk"), None);
        assert!(texts.with("disk").none() && texts.with("").none());
        assert_eq!(texts.enter("another"), first);
    }
}
