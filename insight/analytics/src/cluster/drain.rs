//! Drain: a message goes by its number of tokens and its first word to a few templates, and joins the most
//! alike; what differs there becomes variable.

use super::words::ANY;
use std::collections::HashMap;

/// Templates, found by length and first word.
#[derive(Debug)]
pub(super) struct Drain {
    join: f64,
    most: usize,
    templates: Vec<Vec<String>>,
    leaves: HashMap<(usize, String), Vec<usize>>,
}

impl Drain {
    pub(super) fn new(join: f64, most: usize) -> Self {
        Self { join, most, templates: Vec::new(), leaves: HashMap::new() }
    }

    /// The template's tokens; none for that of the rest.
    pub(super) fn template(&self, at: usize) -> &[String] {
        self.templates.get(at).map_or(&[], Vec::as_slice)
    }

    /// Finds or makes the template of a message. When the set is full: one past the last.
    pub(super) fn push(&mut self, tokens: Vec<String>) -> usize {
        let key = (tokens.len(), tokens.first().cloned().unwrap_or_default());
        let leaf = self.leaves.entry(key).or_default();
        let mut best: Option<(f64, usize)> = None;
        for at in leaf.iter().copied() {
            let alike = same(&self.templates[at], &tokens);
            if best.is_none_or(|(most, _)| alike > most) {
                best = Some((alike, at));
            }
        }
        if let Some((alike, at)) = best
            && alike >= self.join
        {
            for (known, token) in self.templates[at].iter_mut().zip(&tokens) {
                if known != token {
                    ANY.clone_into(known);
                }
            }
            return at;
        }
        if self.templates.len() == self.most {
            return self.most;
        }
        self.templates.push(tokens);
        leaf.push(self.templates.len() - 1);
        self.templates.len() - 1
    }
}

/// The share of words of the template that stand in the message; all if it has none.
fn same(template: &[String], tokens: &[String]) -> f64 {
    let words = template.iter().zip(tokens).filter(|(known, _)| *known != ANY);
    let (all, equal) = words
        .fold((0_u32, 0_u32), |(all, equal), (known, token)| (all + 1, equal + u32::from(known == token)));
    if all == 0 { 1.0 } else { f64::from(equal) / f64::from(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_differs_becomes_variable() {
        let mut drain = Drain::new(0.5, 10);
        assert_eq!(drain.push(of("no tool named grep here")), 0);
        assert_eq!(drain.push(of("no tool named find here")), 0);
        assert_eq!(drain.template(0).join(" "), "no tool named <*> here");
        assert_eq!(drain.push(of("disk is full")), 1);
    }

    #[test]
    fn a_full_set_has_one_place_for_the_rest() {
        let mut drain = Drain::new(0.5, 1);
        assert_eq!([drain.push(of("a b")), drain.push(of("c d e")), drain.push(of("f"))], [0, 1, 1]);
        assert!(drain.template(1).is_empty());
    }
}
