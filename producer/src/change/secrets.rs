//! Credentials in added lines. Pure.
//!
//! Two kinds: what is a credential by its form, and a long random value that is given a telling name.

use regex::Regex;
use std::sync::LazyLock;

/// What a credential looks like, and what it is called.
static FORMS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let forms = [
        ("a private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
        ("an AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
        ("a GitHub token", r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{60,})\b"),
        ("a Google API key", r"\bAIza[0-9A-Za-z_-]{35}\b"),
        ("a Slack token", r"\bxox[baprs]-[0-9A-Za-z-]{10,}"),
        ("an OpenAI or Anthropic key", r"\bsk-(?:ant-|proj-)?[0-9A-Za-z_-]{32,}"),
        ("a JSON web token", r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}"),
    ];
    forms.map(|(name, form)| (name, Regex::new(form).expect("a literal of ours"))).to_vec()
});

/// A telling name, and the value that it is given.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    let name = r#"(?i)(?:api[_-]?key|secret|token|passw(?:or)?d|credential)[a-z_-]*["']?\s*(?::|=|=>)\s*"#;
    Regex::new(&format!(r#"{name}["']([0-9A-Za-z+/_=.-]{{20,}})["']"#)).expect("a literal of ours")
});

/// The bits of a letter below which a value is words rather than chance.
const RANDOM_BITS: f64 = 3.5;

/// What kind of credential a line holds, if any.
pub(super) fn found(line: &str) -> Option<&'static str> {
    if let Some((name, _)) = FORMS.iter().find(|(_, form)| form.is_match(line)) {
        return Some(name);
    }
    let value = NAMED.captures(line)?.get(1)?.as_str();
    (entropy(value) >= RANDOM_BITS && value.bytes().any(|byte| byte.is_ascii_digit()))
        .then_some("a credential")
}

/// The line as it may be shown: a verdict must not spread what it warns of.
pub(super) fn masked(line: &str) -> String {
    let mut line = line.to_owned();
    for (_, form) in FORMS.iter() {
        line = form.replace_all(&line, "***").into_owned();
    }
    let value = NAMED.captures(&line).and_then(|captures| captures.get(1)).map(|value| value.range());
    if let Some(range) = value {
        line.replace_range(range, "***");
    }
    line
}

/// Shannon's, in bits a letter.
fn entropy(text: &str) -> f64 {
    let mut counts = [0u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let length = text.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / length)
        .map(|p| -p * p.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_from_words() {
        // Put together here, so that no scanner takes this file for a leak.
        let google = format!("key = {}{}", "AIza", "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q");
        for line in [
            google.as_str(),
            &format!("-----BEGIN RSA {} KEY-----", "PRIVATE"),
            &format!("aws = {}{}", "AKIA", "Z7X2QW9R4T6Y8U1P"),
            r#"API_KEY = "f3Kq9Zx7Lm2Pv8Rt5Wy1Bn4C""#,
            r#""password": "q8Z1x7Lm2Pv8Rt5Wy1Bn4Ckd""#,
        ] {
            assert!(found(line).is_some(), "{line}");
            assert!(masked(line).contains("***"), "{line}");
        }
        for line in [
            r#"token = "the-name-of-a-token-kind""#,
            "api_key = os.environ['API_KEY']",
            r#"password = "aaaaaaaaaaaaaaaaaaaaaaaa1""#,
            "secret santa",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let line = r#"API_KEY = "f3Kq9Zx7Lm2Pv8Rt5Wy1Bn4C""#;
        assert_eq!(masked(line), r#"API_KEY = "***""#);
    }
}
