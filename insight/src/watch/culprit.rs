//! What changed when something became worse. Pure.

use super::sighting::Sighting;
use evalfleet_proto::alert::{Culprit, Kind};
use std::sync::Arc;

/// Evaluations on each side that a claim wants at least.
const WITNESSES_MIN: usize = 2;

/// In the order in which they are asked: of several that changed at once, the one nearest to the subject.
const ATTRIBUTES: [&str; 5] = ["version", "agent", "image", "model", "worker"];

/// Those that can be to blame for what a kind of alert is about: a reset is over before the subject begins.
fn attributes(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Reset => &["image"],
        Kind::Failing | Kind::Slower | Kind::Memory | Kind::Disk | Kind::Unknown => &ATTRIBUTES,
    }
}

fn attribute<'s>(of: &'s Sighting, name: &str) -> Option<&'s Arc<str>> {
    match name {
        "version" => of.version.as_ref(),
        "agent" => of.agent.as_ref(),
        "image" => of.image.as_ref(),
        "model" => of.model.as_ref(),
        _ => of.worker.as_ref(),
    }
}

/// The first attribute in which all that are worse (`bad`) are alike, and most of those before (`good`, the oldest first)
/// are otherwise. None where nothing is: it claims nothing without that.
pub(super) fn culprit(kind: Kind, bad: &[Arc<Sighting>], good: &[Arc<Sighting>]) -> Option<Culprit> {
    if bad.len() < WITNESSES_MIN || good.len() < WITNESSES_MIN {
        return None;
    }
    attributes(kind).iter().find_map(|name| {
        let value = attribute(bad.first()?, name)?;
        if bad.iter().any(|one| attribute(one, name) != Some(value)) {
            return None;
        }
        let others: Vec<&Arc<str>> =
            good.iter().filter_map(|one| attribute(one, name)).filter(|other| *other != value).collect();
        let before = others.last()?;
        (2 * others.len() > good.len()).then(|| Culprit {
            attribute: (*name).to_owned(),
            value: value.to_string(),
            before: before.to_string(),
        })
    })
}

/// Whether most of those before (`good`) were of another version, agent or image than `last`, which is worse: only then
/// can one of these be to blame.
pub(super) fn is_of_another(last: &Sighting, good: &[Arc<Sighting>]) -> bool {
    let others = good.iter().filter(|one| one.origin() != last.origin()).count();
    good.len() >= WITNESSES_MIN && 2 * others > good.len()
}

/// Whether `attribute` is one of those whose first bad one bisecting finds.
pub(super) fn is_of_origin(attribute: &str) -> bool {
    matches!(attribute, "version" | "agent" | "image")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::one;

    fn of(version: &str, worker: &str) -> Arc<Sighting> {
        Arc::new(Sighting { version: Some(version.into()), worker: Some(worker.into()), ..one(0) })
    }

    #[test]
    fn a_version_that_all_failures_have_and_no_pass_before_is_named() {
        let good = [of("a", "w1"), of("a", "w2"), of("a", "w1")];
        let found = culprit(Kind::Failing, &[of("b", "w1"), of("b", "w2")], &good).unwrap();
        assert_eq!(
            (found.attribute.as_str(), found.value.as_str(), found.before.as_str()),
            ("version", "b", "a")
        );
        let found = culprit(Kind::Failing, &[of("a", "w3"), of("a", "w3")], &good).unwrap();
        assert_eq!((found.attribute.as_str(), found.value.as_str()), ("worker", "w3"));
    }

    #[test]
    fn a_reset_is_no_version_s_doing() {
        let good = [of("a", "w1"), of("a", "w2")];
        assert_eq!(culprit(Kind::Reset, &[of("b", "w1"), of("b", "w2")], &good), None);
    }

    #[test]
    fn only_what_is_mostly_of_other_versions_can_blame_them() {
        let good = [of("a", "w1"), of("a", "w2"), of("b", "w1")];
        assert!(is_of_another(&of("b", "w1"), &good) && !is_of_another(&of("a", "w1"), &good));
        assert!(!is_of_another(&of("b", "w1"), &good[..1]), "one is no witness");
    }

    #[test]
    fn what_was_there_before_or_is_not_in_all_is_not_blamed() {
        let good = [of("a", "w1"), of("a", "w2"), of("a", "w1")];
        assert_eq!(culprit(Kind::Failing, &[of("a", "w1"), of("a", "w2")], &good), None);
        assert_eq!(
            culprit(Kind::Failing, &[of("a", "w1"), of("a", "w1")], &good),
            None,
            "it ran most of what passed"
        );
        assert_eq!(culprit(Kind::Failing, &[of("b", "w1"), of("a", "w2")], &good), None);
        assert_eq!(culprit(Kind::Failing, &[of("b", "w9")], &good), None, "one is no witness");
    }
}
