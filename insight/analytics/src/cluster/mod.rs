//! Failures that are one: messages to templates, templates to clusters.
//!
//! ```text
//! message ─▶ its telling line ─▶ tokens, the variable ones masked ─▶ template (Drain) ─▶ alike templates joined
//! ```
//!
//! **Sources.** Drain: He, Zhu, Zheng & Lyu, *Drain: An Online Log Parsing Approach with Fixed Depth Tree*,
//! ICWS 2017. The measure of success: Hubert & Arabie, *Comparing partitions*, Journal of Classification 2
//! (1985).
//!
//! **Bounds.** At most [`TEMPLATES_MAX`] templates are kept and [`TOKENS_MAX`] tokens of a message looked
//! at; a message that fits none of a full set goes to one cluster of the rest. A message costs time linear
//! in its tokens and in the templates of its length and first word; [`Clusters::report`] compares each pair
//! of templates.

mod drain;
mod rand_index;
mod words;

pub use rand_index::adjusted_rand_index;

use crate::cluster::drain::Drain;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many templates are kept.
pub const TEMPLATES_MAX: usize = 2000;
/// How many tokens of a message are looked at.
pub const TOKENS_MAX: usize = 64;
/// How many values of an attribute a cluster names.
const VALUES_MAX: usize = 20;

/// How alike messages and templates must be, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The share of equal tokens at which a message joins a template (Drain's `st`).
    pub join: f64,
    /// The share of words in common, in order, at which two templates are one cluster.
    pub merge: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { join: 0.6, merge: 0.85 }
    }
}

/// One failure.
#[derive(Debug, Clone)]
pub struct Failure<'a> {
    /// What was said of it; may have many lines.
    pub message: &'a str,
    /// When, in any unit that grows.
    pub at: i64,
    /// Tool, model, worker, and the like.
    pub attributes: &'a [(&'a str, &'a str)],
}

/// Failures that look like one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cluster {
    /// What they have in common; `<*>` is what varies.
    pub template: String,
    /// How many there are.
    pub count: u64,
    /// When the first was.
    pub first: i64,
    /// When the last was.
    pub last: i64,
    /// The first one's message.
    pub example: String,
    /// Attribute → value → how many. Beyond twenty values of an attribute the rest is under `…`.
    pub attributes: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Failures as they come.
#[derive(Debug)]
pub struct Clusters {
    settings: Settings,
    drain: Drain,
    /// By template; the last is that of the rest.
    seen: Vec<Option<Cluster>>,
}

impl Clusters {
    /// Without any failure yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, drain: Drain::new(settings.join, TEMPLATES_MAX), seen: Vec::new() }
    }

    /// Takes one failure, and says which template it fell to: an index for [`Clusters::report`].
    pub fn push(&mut self, failure: &Failure<'_>) -> usize {
        let template = self.drain.push(words::tokens(failure.message, TOKENS_MAX));
        if self.seen.len() <= template {
            self.seen.resize(template + 1, None);
        }
        let new = || Cluster {
            template: String::new(),
            count: 0,
            first: failure.at,
            last: failure.at,
            example: failure.message.to_owned(),
            attributes: BTreeMap::new(),
        };
        let cluster = self.seen[template].get_or_insert_with(new);
        cluster.count += 1;
        if failure.at < cluster.first {
            cluster.first = failure.at;
            failure.message.clone_into(&mut cluster.example);
        }
        cluster.last = cluster.last.max(failure.at);
        for (name, value) in failure.attributes {
            add(cluster.attributes.entry((*name).to_owned()).or_default(), value, 1);
        }
        template
    }

    /// The clusters, largest first, and for each template the cluster that it is part of.
    pub fn report(&self) -> (Vec<Cluster>, Vec<usize>) {
        let mut group: Vec<usize> = (0..self.seen.len()).collect();
        for one in 0..self.seen.len() {
            // Each joins the first that it is like: what came later follows what came earlier.
            let like = (0..one).find(|other| {
                group[*other] == *other
                    && words::likeness(self.drain.template(one), self.drain.template(*other))
                        >= self.settings.merge
            });
            group[one] = like.unwrap_or(one);
        }
        let mut clusters: BTreeMap<usize, Cluster> = BTreeMap::new();
        for (template, cluster) in self.seen.iter().enumerate() {
            let Some(cluster) = cluster else { continue };
            let key = group[template];
            match clusters.get_mut(&key) {
                Some(into) => join(into, cluster),
                None => {
                    let template = self.drain.template(template).join(" ");
                    clusters.insert(key, Cluster { template, ..cluster.clone() });
                }
            }
        }
        let mut order: Vec<usize> = clusters.keys().copied().collect();
        order.sort_by_key(|key| (std::cmp::Reverse(clusters[key].count), *key));
        let place: BTreeMap<usize, usize> = order.iter().enumerate().map(|(at, key)| (*key, at)).collect();
        let of = group.iter().map(|key| place.get(key).copied().unwrap_or(usize::MAX)).collect();
        (order.into_iter().filter_map(|key| clusters.remove(&key)).collect(), of)
    }
}

fn join(into: &mut Cluster, other: &Cluster) {
    into.count += other.count;
    if other.first < into.first {
        into.first = other.first;
        into.example.clone_from(&other.example);
    }
    into.last = into.last.max(other.last);
    for (name, values) in &other.attributes {
        let counts = into.attributes.entry(name.clone()).or_default();
        values.iter().for_each(|(value, count)| add(counts, value, *count));
    }
}

fn add(counts: &mut BTreeMap<String, u64>, value: &str, count: u64) {
    let known = counts.contains_key(value) || counts.len() < VALUES_MAX;
    *counts.entry(if known { value } else { "…" }.to_owned()).or_default() += count;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failure(message: &str, at: i64) -> Failure<'_> {
        Failure { message, at, attributes: &[("tool", "edit_file")] }
    }

    #[test]
    fn what_varies_does_not_part_and_what_tells_does() {
        let mut clusters = Clusters::new(Settings::default());
        for at in 0..20 {
            clusters.push(&failure(&format!("exit status {at}"), at));
            clusters.push(&failure(&format!("its disk grew by {at}00 bytes, and may grow by 64 MiB"), at));
            clusters.push(&failure(
                &format!("Traceback (most recent call last):\n  File \"/a{at}.py\", line {at}, in f\nValueError: bad row {at}"),
                at,
            ));
        }
        let (found, _) = clusters.report();
        assert_eq!(found.iter().map(|cluster| cluster.count).collect::<Vec<_>>(), [20, 20, 20], "{found:#?}");
        assert_eq!((found[0].first, found[0].last), (0, 19));
        assert_eq!(found[0].example, "exit status 0");
        assert_eq!(found[0].attributes["tool"]["edit_file"], 20);
    }

    #[test]
    fn the_earliest_is_the_example_whatever_the_order() {
        let mut clusters = Clusters::new(Settings::default());
        for at in [5, 3, 9] {
            clusters.push(&failure(&format!("exit status {at}"), at));
        }
        let (found, _) = clusters.report();
        assert_eq!((found[0].first, found[0].example.as_str()), (3, "exit status 3"));
    }

    proptest! {
        #[test]
        fn every_failure_is_counted_once(messages in prop::collection::vec("[a-c0-9 :/]{0,20}", 0..80)) {
            let mut clusters = Clusters::new(Settings::default());
            let templates: Vec<usize> =
                messages.iter().map(|message| clusters.push(&failure(message, 0))).collect();
            let (found, of) = clusters.report();
            prop_assert_eq!(found.iter().map(|cluster| cluster.count).sum::<u64>(), messages.len() as u64);
            prop_assert!(templates.iter().all(|template| of[*template] < found.len()));
        }
    }
}
