//! Where a statement ends: usually with its line. One whose brackets or quotes are open goes on, and so does
//! one that ends in a backslash.

use super::grammar;

/// Bytes of one statement.
const BYTES_MAX: usize = 1 << 20;
/// How deep brackets may lie in each other: no statement that can be understood needs as many.
const DEPTH_MAX: usize = 1000;
/// Why a statement is refused that has more.
const TOO_LONG: &str = "the statement is longer than 1 MiB: what is large goes in by --file or --stdin";

/// What a text is written in, as far as its end depends on it. Its first line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// Two kinds of quotes, three of brackets.
    Call,
    /// Datalog: `'` quotes what follows and opens nothing.
    Edn,
    /// As in a shell: brackets are letters.
    Words,
    Comment,
}

fn dialect(text: &str) -> Dialect {
    let text = text.trim_start();
    if text.starts_with('#') {
        return Dialect::Comment;
    }
    let word = text.split(char::is_whitespace).next().unwrap_or_default();
    match word.trim_start_matches('/') {
        "query" => Dialect::Edn,
        "call" => Dialect::Call,
        _ if grammar::is_call(text) => Dialect::Call,
        _ => Dialect::Words,
    }
}

/// What is open at the end of the lines that were read: each is read once, however many follow.
#[derive(Debug)]
struct Scan {
    dialect: Dialect,
    quote: Option<char>,
    /// The brackets that would close what is open.
    brackets: Vec<char>,
    /// There is an error that no further line mends.
    broken: bool,
}

impl Scan {
    fn of(first_line: &str) -> Self {
        Self { dialect: dialect(first_line), quote: None, brackets: Vec::new(), broken: false }
    }

    fn read(&mut self, line: &str) {
        if self.dialect == Dialect::Comment {
            return;
        }
        let words = self.dialect == Dialect::Words;
        let mut letters = line.chars();
        while let Some(letter) = letters.next() {
            match (self.quote, letter) {
                (Some(open), _) if letter == open => self.quote = None,
                // A shell's single quotes know no escapes.
                (Some('\''), '\\') if words => {}
                (_, '\\') => _ = letters.next(),
                (Some(_), _) => {}
                (None, '"') => self.quote = Some(letter),
                (None, '\'') if self.dialect != Dialect::Edn => self.quote = Some(letter),
                // A comment, to the end of the line.
                (None, ';') if self.dialect == Dialect::Edn => return,
                _ if words => {}
                (None, '(') => self.open(')'),
                (None, '[') => self.open(']'),
                (None, '{') => self.open('}'),
                (None, ')' | ']' | '}') => self.broken |= self.brackets.pop() != Some(letter),
                (None, _) => {}
            }
        }
    }

    fn open(&mut self, closes: char) {
        if self.brackets.len() < DEPTH_MAX {
            self.brackets.push(closes);
        } else {
            self.broken = true;
        }
    }

    fn is_open(&self) -> bool {
        !self.broken && (self.quote.is_some() || !self.brackets.is_empty())
    }
}

/// A statement, and the line of the input at which it begins, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Or why it cannot be read.
    pub(super) text: Result<String, &'static str>,
    pub(super) line: usize,
}

/// Gathers lines to statements.
#[derive(Debug, Default)]
pub(super) struct Statements {
    text: String,
    /// How many lines there were.
    lines: usize,
    began: usize,
    /// There while a statement goes on.
    scan: Option<Scan>,
    spoilt: Option<&'static str>,
}

impl Statements {
    /// One more line, without its end; gives the statement that it completes.
    pub(super) fn push(&mut self, line: &str) -> Option<Statement> {
        self.lines += 1;
        let mut scan = self.scan.take().unwrap_or_else(|| {
            self.began = self.lines;
            Scan::of(line)
        });
        let backslashes = line.chars().rev().take_while(|letter| *letter == '\\').count();
        let continued = backslashes % 2 == 1 && scan.dialect != Dialect::Comment;
        let piece = if continued { line.strip_suffix('\\').unwrap_or(line) } else { line };
        scan.read(piece);
        self.keep(piece);
        if continued || scan.is_open() {
            if !continued {
                self.keep("\n");
            }
            self.scan = Some(scan);
            return None;
        }
        Some(self.take())
    }

    /// One more line, which cannot be read: whatever it belongs to is refused.
    pub(super) fn push_spoilt(&mut self, line: &str, why: &'static str) -> Option<Statement> {
        self.spoilt = Some(why);
        self.push(line)
    }

    /// One more line, of which nothing is known: whatever it belongs to is given up. Gives the line at which that began.
    pub(super) fn give_up(&mut self) -> usize {
        self.lines += 1;
        if self.scan.take().is_none() {
            self.began = self.lines;
        }
        self.take().line
    }

    /// What is left at the end of the input, complete or not.
    pub(super) fn end(&mut self) -> Option<Statement> {
        self.scan.take().map(|_| self.take())
    }

    /// Keeps what there is room for: a statement that has more is read to its end all the same, since what follows is
    /// no statement of its own.
    fn keep(&mut self, piece: &str) {
        if self.text.len() + piece.len() > BYTES_MAX {
            self.spoilt.get_or_insert(TOO_LONG);
        }
        if self.spoilt.is_none() {
            self.text.push_str(piece);
        }
    }

    fn take(&mut self) -> Statement {
        let text = std::mem::take(&mut self.text);
        Statement { text: self.spoilt.take().map_or(Ok(text), Err), line: self.began }
    }
}

/// Whether what was typed so far goes on.
pub(super) fn goes_on(typed: &str) -> bool {
    // What is too long is not read again with each of its lines.
    if typed.len() > BYTES_MAX {
        return false;
    }
    let mut statements = Statements::default();
    for line in typed.split('\n') {
        let _ = statements.push(line);
    }
    statements.scan.is_some()
}

/// The statements of a text, which may be several: pasted, or a file's.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let mut statements = Statements::default();
    let mut found: Vec<_> = text.split('\n').filter_map(|line| statements.push(line)).collect();
    found.extend(statements.end());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(usize, String)> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let all = statements(text).into_iter();
        all.map(|statement| (statement.line, statement.text.expect("it can be read"))).collect()
    }

    #[test]
    fn brackets_quotes_and_backslashes_go_on() {
        let text = "f(\n  a=1\n)\n\nf('it\nis')\nrun -- echo \\\n  b\njobs\n";
        let expected =
            [(1, "f(\n  a=1\n)"), (4, ""), (5, "f('it\nis')"), (7, "run -- echo   b"), (9, "jobs")];
        assert_eq!(all(text), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn each_language_has_its_own_quotes() {
        for closed in [
            "query (d/q '[:find ?e :where [?e :a]] db)",
            "/query [:find ?e] ; it's [open",
            "run -- echo ( [ {",
            "run 'a\\'",
            "# it's ( a comment \\",
            "f(\")\")",
            "f())",
            "f(]",
            r#"f("\\")"#,
        ] {
            assert!(!goes_on(closed), "{closed}");
        }
        for open in [
            "query [:find ?e",
            "/query [:find ; ]",
            "run \"a",
            "f(",
            "f {",
            "f(\"\\\")",
            "f(')",
            "call f {",
            "jobs \\",
        ] {
            assert!(goes_on(open), "{open}");
        }
    }

    #[test]
    fn what_never_closes_ends_with_the_input() {
        assert_eq!(all("jobs\nf(\na=1"), [(1, "jobs".to_owned()), (2, "f(\na=1\n".to_owned())]);
        assert!(!goes_on(&"(".repeat(DEPTH_MAX + 1)) && goes_on(&format!("f{}", "(".repeat(DEPTH_MAX))));
        assert!(!goes_on(&format!("f{}", "(".repeat(DEPTH_MAX + 1))));
    }

    #[test]
    fn what_is_too_long_is_refused_whole_and_nothing_of_it_is_taken_for_a_statement() {
        let mut statements = Statements::default();
        assert_eq!(statements.push("f(a='"), None);
        for _ in 0..3 {
            assert_eq!(statements.push(&"cancel all ".repeat(BYTES_MAX / 20)), None);
        }
        assert!(statements.text.len() <= BYTES_MAX);
        assert_eq!(statements.push("')"), Some(Statement { text: Err(TOO_LONG), line: 1 }));
        assert_eq!(statements.push("jobs"), Some(Statement { text: Ok("jobs".to_owned()), line: 6 }));
    }

    #[test]
    fn what_cannot_be_read_spoils_what_it_belongs_to_and_nothing_else() {
        let mut statements = Statements::default();
        assert_eq!(statements.push("f("), None);
        assert_eq!(statements.push_spoilt("'\u{fffd}',", "why"), None);
        assert_eq!(statements.push(")"), Some(Statement { text: Err("why"), line: 1 }));
        assert_eq!(statements.push("f("), None);
        assert_eq!(statements.give_up(), 4);
        assert_eq!(statements.push("jobs").map(|statement| statement.line), Some(6));
        assert_eq!(statements.give_up(), 7);
        assert_eq!(statements.end(), None);
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_lost(lines in proptest::collection::vec("[a-c(){}\\[\\]'\"/ #;]{0,8}", 0..12)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let joined: String = all(&text).into_iter().map(|(_, text)| text.trim_end_matches('\n').to_owned() + "\n").collect();
            proptest::prop_assert_eq!(joined.replace('\n', ""), text.replace('\n', ""));
        }
    }
}
