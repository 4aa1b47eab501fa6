//! Counts what a text is made of.

/// How many lines and words a text has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub lines: usize,
    pub words: usize,
}

/// Counts the lines and words of `text`.
pub fn count(text: &str) -> Counts {
    Counts {
        lines: text.lines().count(),
        words: text.split_whitespace().count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_words() {
        let counts = Counts { lines: 2, words: 3 };
        assert_eq!(count("one two\nthree\n"), counts);
    }
}
