//! What changed in a file: two texts, line by line. Pure.

use evalfleet_proto::effect::{Content, Kept};
use serde::Serialize;
use similar::{ChangeTag, TextDiff};
use std::time::Duration;
use utoipa::ToSchema;

/// The most lines that are shown.
const LINES_MAX: usize = 2000;
/// The most characters of a line that are shown.
const WIDTH_MAX: usize = 1000;
/// Lines around a change.
const AROUND: usize = 3;
/// How long may be looked for the shortest difference; after that, a longer one does.
const PATIENCE: Duration = Duration::from_millis(200);

/// What was known of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Known {
    /// `absent`, `text`, `binary`, `too_long`, or `not_at_hand` (the image's own).
    pub is: &'static str,
    /// Its length.
    pub bytes: u64,
}

impl From<Content> for Known {
    fn from(content: Content) -> Self {
        let is = match content.is {
            Kept::Absent => "absent",
            Kept::Text => "text",
            Kept::Binary => "binary",
            Kept::TooLong => "too_long",
            Kept::NotAtHand => "not_at_hand",
        };
        Self { is, bytes: content.bytes }
    }
}

/// A line on either side or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DiffLine {
    /// `same`, `added` or `removed`.
    pub is: &'static str,
    /// Its number before, from 1.
    pub before: Option<usize>,
    /// Its number after, from 1.
    pub after: Option<usize>,
    /// The line without its end, at most 1000 characters of it.
    pub text: String,
}

/// Lines that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Hunk {
    /// Changed ones, and up to three around them.
    pub lines: Vec<DiffLine>,
}

/// What changed in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FileDiff {
    /// Its path.
    pub path: String,
    /// What was in it.
    pub before: Known,
    /// What is in it.
    pub after: Known,
    /// The changes; none where a side cannot be shown.
    pub hunks: Vec<Hunk>,
    /// Lines that are new.
    pub added: u64,
    /// Lines that are gone.
    pub removed: u64,
    /// Changed lines, and lines around them, that are not listed.
    pub omitted: u64,
    /// The transaction that this stands on.
    pub basis_t: u64,
}

/// Whether a side can be put beside another.
fn is_shown(content: Content) -> bool {
    matches!(content.is, Kept::Absent | Kept::Text)
}

/// Compares what is known of a file, with the texts that were kept. Where only what is in it now is at hand, that is
/// shown as it is, and nothing of it is called new.
pub fn diff(path: &str, before: (Content, &str), after: (Content, &str), basis_t: u64) -> FileDiff {
    let mut found = FileDiff {
        path: path.to_owned(),
        before: before.0.into(),
        after: after.0.into(),
        hunks: Vec::new(),
        added: 0,
        removed: 0,
        omitted: 0,
        basis_t,
    };
    match (is_shown(before.0), is_shown(after.0)) {
        (true, true) => compare(&mut found, before.1, after.1),
        (false, true) if before.0.is == Kept::NotAtHand && after.0.is == Kept::Text => {
            compare(&mut found, after.1, after.1);
        }
        (true | false, _) => {}
    }
    found
}

fn compare(found: &mut FileDiff, before: &str, after: &str) {
    let compared = TextDiff::configure().timeout(PATIENCE).diff_lines(before, after);
    let groups = if before == after { vec![compared.ops().to_vec()] } else { compared.grouped_ops(AROUND) };
    let mut room = LINES_MAX;
    for group in groups {
        let mut lines = Vec::new();
        for change in group.iter().flat_map(|op| compared.iter_changes(op)) {
            let is = match change.tag() {
                ChangeTag::Equal => "same",
                ChangeTag::Insert => "added",
                ChangeTag::Delete => "removed",
            };
            found.added += u64::from(is == "added");
            found.removed += u64::from(is == "removed");
            if room == 0 {
                found.omitted += 1;
                continue;
            }
            room -= 1;
            let number = |index: Option<usize>| index.map(|index| index + 1);
            lines.push(DiffLine {
                is,
                before: number(change.old_index()),
                after: number(change.new_index()),
                text: change.value().trim_end_matches(['\n', '\r']).chars().take(WIDTH_MAX).collect(),
            });
        }
        if !lines.is_empty() {
            found.hunks.push(Hunk { lines });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> (Content, &str) {
        (Content { is: Kept::Text, bytes: text.len() as u64, sha256: None }, text)
    }

    fn said(found: &FileDiff) -> Vec<String> {
        let mark = |line: &DiffLine| match line.is {
            "added" => "+",
            "removed" => "-",
            _ => " ",
        };
        found
            .hunks
            .iter()
            .flat_map(|hunk| &hunk.lines)
            .map(|line| format!("{}{}", mark(line), line.text))
            .collect()
    }

    #[test]
    fn what_changed_is_shown_among_what_did_not() {
        let found = diff("/a", text("a\nb\nc\n"), text("a\nB\nc\nd\n"), 7);
        assert_eq!(said(&found), [" a", "-b", "+B", " c", "+d"]);
        assert_eq!((found.added, found.removed, found.omitted, found.basis_t), (2, 1, 0, 7));
        let line = &found.hunks[0].lines[3];
        assert_eq!((line.before, line.after), (Some(3), Some(3)));
    }

    #[test]
    fn a_new_file_is_all_new_and_a_deleted_one_all_gone() {
        assert_eq!(said(&diff("/a", (Content::ABSENT, ""), text("x\ny\n"), 1)), ["+x", "+y"]);
        assert_eq!(said(&diff("/a", text("x\n"), (Content::ABSENT, ""), 1)), ["-x"]);
    }

    #[test]
    fn what_is_no_text_is_named_and_not_shown() {
        let binary = (Content::without(Kept::Binary, 12), "");
        let found = diff("/a", text("x\n"), binary, 1);
        assert_eq!((found.after.is, found.after.bytes, found.hunks.len()), ("binary", 12, 0));
        // What is there now is shown as it is where the image has the other side.
        let found = diff("/a", (Content::without(Kept::NotAtHand, 3), ""), text("x\ny\n"), 1);
        assert_eq!((said(&found), found.added), (vec![" x".to_owned(), " y".to_owned()], 0));
    }

    #[test]
    fn what_is_long_is_cut_and_counted() {
        let long: String = (0..LINES_MAX + 5).map(|number| format!("{number}\n")).collect();
        let found = diff("/a", (Content::ABSENT, ""), text(&long), 1);
        assert_eq!((found.added, found.omitted), (LINES_MAX as u64 + 5, 5));
        let wide = "w".repeat(WIDTH_MAX * 2);
        assert_eq!(diff("/a", (Content::ABSENT, ""), text(&wide), 1).hunks[0].lines[0].text.len(), WIDTH_MAX);
    }

    proptest! {
        #[test]
        fn taking_and_adding_the_lines_makes_the_one_text_of_the_other(before in "([ab]\n){0,30}", after in "([ab]\n){0,30}") {
            let found = diff("/a", text(&before), text(&after), 1);
            let count = |text: &str| text.lines().count() as i64;
            prop_assert_eq!(found.added as i64 - found.removed as i64, count(&after) - count(&before));
            for line in found.hunks.iter().flat_map(|hunk| &hunk.lines) {
                let of = |text: &str, number: Option<usize>| number.and_then(|number| text.lines().nth(number - 1).map(str::to_owned));
                if line.before.is_some() {
                    prop_assert_eq!(of(&before, line.before), Some(line.text.clone()));
                }
                if line.after.is_some() {
                    prop_assert_eq!(of(&after, line.after), Some(line.text.clone()));
                }
            }
        }
    }
}
