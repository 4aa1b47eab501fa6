//! What Tab offers: slash commands, commands, tools, their parameters, and the jobs submitted here. Pure.

use super::{grammar, slash};
use crate::registry::Tool;
use serde_json::Value;

/// Everything that can be offered.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Tools with their parameters, the required ones first.
    tools: Vec<(String, Vec<String>)>,
    /// Commands without a slash.
    commands: Vec<String>,
    /// `#1` and so on.
    pub(super) handles: Vec<String>,
}

impl Words {
    pub(super) fn of<'a>(tools: impl Iterator<Item = &'a Tool>, commands: Vec<String>) -> Self {
        let tools = tools.map(|tool| (tool.name.to_string(), parameters(tool))).collect();
        Self { tools, commands, handles: Vec::new() }
    }

    /// Where the word begins that the cursor (in bytes) stands at the end of, and what it may become.
    pub(super) fn complete(&self, line: &str, cursor: usize) -> (usize, Vec<String>) {
        let before = line.get(..cursor).unwrap_or(line);
        let start = before.rfind(|letter: char| !in_word(letter)).map_or(0, |at| {
            at + before.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8)
        });
        let (head, word) = before.split_at(start);
        let offers = self.offers(head.trim_start(), word);
        (start, offers.into_iter().filter(|offer| offer.starts_with(word)).collect())
    }

    /// What may stand after `head`; `word` is its beginning.
    fn offers(&self, head: &str, word: &str) -> Vec<String> {
        if head.is_empty() {
            if word.starts_with('/') {
                return slash::ALL.iter().map(|slash| format!("/{} ", slash.name)).collect();
            }
            let tools = self.tools.iter().map(|(name, _)| format!("{name}("));
            return tools.chain(self.commands.iter().map(|name| format!("{name} "))).collect();
        }
        if grammar::is_call(head) {
            return self.parameters_after(head);
        }
        let names = || self.tools.iter().map(|(name, _)| format!("{name} ")).collect();
        match head.trim_end() {
            "/history" | "/eval" | "call" | "/call" | "tool show" | "tool eval" => names(),
            "/as-of" => vec!["now ".to_owned()],
            "/help" => slash::ALL.iter().map(|slash| format!("{} ", slash.name)).collect(),
            _ => self.handles.iter().map(|handle| format!("{handle} ")).collect(),
        }
    }

    /// The parameters that a call has not given yet, where one may begin.
    fn parameters_after(&self, head: &str) -> Vec<String> {
        let name = grammar::name_of(head);
        let Some((_, parameters)) = self.tools.iter().find(|(tool, _)| tool == name) else {
            return Vec::new();
        };
        let inside = head.get(name.len()..).unwrap_or_default();
        let Some(quoted) = begins_argument(inside) else { return Vec::new() };
        let json = inside.trim_start().starts_with('{');
        let missing = parameters.iter().filter(|name| {
            let given = [format!("{name}="), format!("{name}:"), format!("{name}\"")];
            !given.iter().any(|form| inside.contains(form.as_str()))
        });
        missing
            .map(|name| match (json, quoted) {
                (true, false) => format!("\"{name}\": "),
                (true, true) => format!("{name}\": "),
                (false, _) => format!("{name}="),
            })
            .collect()
    }
}

/// Whether an argument of the call itself begins after `inside`, and whether its quote is open already.
fn begins_argument(inside: &str) -> Option<bool> {
    let (mut depth, mut quote, mut last) = (0, None, ' ');
    let mut letters = inside.chars();
    let mut before_quote = ' ';
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(_), '\\') => _ = letters.next(),
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => (quote, before_quote) = (Some(letter), last),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, _) => {}
        }
        if !letter.is_whitespace() {
            last = letter;
        }
    }
    let begins = |letter: char| matches!(letter, '(' | '{' | ',') && depth == 1;
    match quote {
        Some('"') if inside.ends_with('"') && begins(before_quote) => Some(true),
        None if begins(last) => Some(false),
        _ => None,
    }
}

fn in_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/' | '#')
}

fn parameters(tool: &Tool) -> Vec<String> {
    let required = tool.parameters.get("required").and_then(Value::as_array);
    let mut names: Vec<String> =
        required.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let all = tool.parameters.get("properties").and_then(Value::as_object);
    for name in all.into_iter().flat_map(|all| all.keys()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words() -> Words {
        let tool = |name: &str, required: &[&str], optional: &[&str]| -> Tool {
            let all: serde_json::Map<_, _> =
                optional.iter().chain(required).map(|name| ((*name).to_owned(), json!({}))).collect();
            let parameters = json!({"type": "object", "properties": all, "required": required});
            serde_json::from_value(json!({"name": name, "description": "", "parameters": parameters}))
                .unwrap()
        };
        let tools =
            [tool("read_file", &["path"], &[]), tool("write_file", &["path", "content"], &["create_dirs"])];
        let mut words = Words::of(tools.iter(), vec!["run".to_owned(), "wait".to_owned()]);
        words.handles = vec!["#1".to_owned(), "#12".to_owned()];
        words
    }

    #[track_caller]
    fn offers(line: &str, expected: &[&str]) {
        let (start, found) = words().complete(line, line.len());
        let whole: Vec<_> = found.iter().map(|offer| format!("{}{offer}", &line[..start])).collect();
        assert_eq!(whole, expected);
    }

    #[test]
    fn a_line_begins_with_a_tool_or_a_command() {
        offers("wr", &["write_file("]);
        offers("r", &["read_file(", "run "]);
        offers("/res", &["/result "]);
        offers("/d", &["/diff ", "/dead "]);
        offers("x", &[]);
    }

    #[test]
    fn a_call_is_offered_the_parameters_that_it_lacks() {
        offers("write_file(", &["write_file(path=", "write_file(content=", "write_file(create_dirs="]);
        offers(
            "write_file(path=\"a,b\", c",
            &["write_file(path=\"a,b\", content=", "write_file(path=\"a,b\", create_dirs="],
        );
        offers("write_file(path=", &[]);
        offers("write_file(path=\"c", &[]);
        offers("write_file([1, ", &[]);
        offers("write_file {\"pa", &["write_file {\"path\": "]);
        offers("write_file {\"path\": 1, cr", &[]);
        offers("write_file {\"path\": 1, \"cr", &["write_file {\"path\": 1, \"create_dirs\": "]);
        offers("unknown(", &[]);
    }

    #[test]
    fn jobs_and_names_follow_the_commands_that_take_them() {
        offers("/result ", &["/result #1 ", "/result #12 "]);
        offers("/diff #1 #12", &["/diff #1 #12 "]);
        offers("/history re", &["/history read_file "]);
        offers("/as-of ", &["/as-of now "]);
        offers("cancel #", &["cancel #1 ", "cancel #12 "]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_typed_can_be_completed(line in "\\PC{0,20}|(/|write_file[({]|#)[a-z\"=,é ]{0,12}", part in 0.0..=1.0) {
            let cursor = (0..=line.len()).filter(|at| line.is_char_boundary(*at)).nth(((line.chars().count() as f64) * part) as usize).unwrap();
            let (start, offers) = words().complete(&line, cursor);
            proptest::prop_assert!(start <= cursor && line.is_char_boundary(start));
            let word = &line[start..cursor];
            proptest::prop_assert!(offers.iter().all(|offer| offer.starts_with(word)));
        }
    }
}
