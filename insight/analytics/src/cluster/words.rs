//! The telling line of a message, its tokens, and how alike two templates are.

/// Stands for what varies.
pub(super) const ANY: &str = "<*>";

/// The tokens of the line that tells most, with those masked that surely vary: numbers, ids, paths,
/// addresses, quoted names.
pub(super) fn tokens(message: &str, most: usize) -> Vec<String> {
    let line = telling(message);
    let spaced = line.replace(['=', ',', '(', ')', '[', ']', '{', '}', ';', '|'], " ");
    spaced.split_whitespace().take(most).map(mask).collect()
}

/// Of a Python traceback the last line, of a Rust panic what was said, else the first line with words.
fn telling(message: &str) -> String {
    let lines = || message.lines().map(str::trim).filter(|line| !line.is_empty());
    if message.contains("Traceback (most recent call last)") {
        let told = lines().rfind(|line| !line.starts_with("File ") && !line.starts_with('^'));
        return told.unwrap_or_default().to_owned();
    }
    if let Some(at) = lines().position(|line| line.contains("panicked at")) {
        // Before Rust 1.73 what was said stood on the same line, in quotes.
        let said = lines().nth(at + 1).filter(|line| !line.starts_with("note:"));
        return format!("panicked {}", said.or_else(|| lines().nth(at)).unwrap_or_default());
    }
    lines().find(|line| line.chars().any(char::is_alphabetic)).unwrap_or_default().to_owned()
}

fn mask(token: &str) -> String {
    let bare = token.trim_matches(['.', ':', '\'', '"', '`', '!', '?']);
    let quoted = token.starts_with(['\'', '"', '`']);
    let varies = bare.chars().any(|c| c.is_ascii_digit());
    if quoted || varies || bare.contains('/') { ANY.to_owned() } else { bare.to_owned() }
}

/// The share of words that two templates have in common in the same order: twice the longest common
/// subsequence over both lengths, what varies left out. Templates without words are alike if equal.
pub(super) fn likeness(one: &[String], other: &[String]) -> f64 {
    let words =
        |tokens: &[String]| -> Vec<String> { tokens.iter().filter(|token| *token != ANY).cloned().collect() };
    let (first, second) = (words(one), words(other));
    if first.is_empty() || second.is_empty() {
        return if one == other { 1.0 } else { 0.0 };
    }
    let mut row = vec![0_usize; second.len() + 1];
    for word in &first {
        let mut corner = 0;
        for (at, other) in second.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { corner + 1 } else { above.max(row[at]) };
            corner = above;
        }
    }
    2.0 * row[second.len()] as f64 / (first.len() + second.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracebacks_panics_and_plain_messages_tell_by_different_lines() {
        assert_eq!(
            telling("Traceback (most recent call last):\n  File \"a\"\nKeyError: 'x'\n"),
            "KeyError: 'x'"
        );
        let panic =
            "thread 'main' panicked at src/main.rs:3:5:\nindex out of bounds: the len is 3\nnote: run";
        assert_eq!(telling(panic), "panicked index out of bounds: the len is 3");
        assert_eq!(telling("\n{\nexit status 3"), "exit status 3");
        assert_eq!(telling(""), "");
    }

    #[test]
    fn numbers_paths_and_ids_are_masked_and_words_kept() {
        let found = tokens("still running after 30.5s in /workspace/a: id=019ab0c4-6f1e", 64);
        assert_eq!(found, ["still", "running", "after", ANY, "in", ANY, "id", ANY]);
    }

    #[test]
    fn likeness_is_of_words_in_order() {
        let of = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(likeness(&of("a b c"), &of("a b c")), 1.0);
        assert_eq!(likeness(&of("a b <*> c"), &of("a b c <*> <*>")), 1.0);
        assert_eq!(likeness(&of("a b"), &of("c d")), 0.0);
        assert_eq!(likeness(&of("<*>"), &of("a")), 0.0);
    }
}
