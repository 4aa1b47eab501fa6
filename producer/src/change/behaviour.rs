//! What a change did when it ran, as the host saw it from outside of the VM. Pure.

use super::looks::{Seen, inside};
use super::order::PROJECT;
use super::suite::{self, Safety};
use super::violation::Violation;
use evalfleet_proto::effect::{Effect, ObjectType};
use evalfleet_proto::ids::Sha256;
use evalfleet_proto::network::Contact;
use evalfleet_proto::status::{Cause, Status};
use globset::GlobSet;
use std::collections::{BTreeMap, BTreeSet};

/// Where programs may leave something besides the project.
const SCRATCH: [&str; 5] = [
    "/tmp/**",
    "/var/tmp/**",
    "/home/dev/.cache/**",
    "/home/dev/.cargo/registry/**",
    "/home/dev/.cargo/.package-cache*",
];
/// Where the programs are that build and run the project.
const TOOLCHAIN: [&str; 10] = [
    "/usr/**",
    "/opt/**",
    "/bin/**",
    "/sbin/**",
    "/lib*/**",
    "/home/dev/.cargo/bin/**",
    "/home/dev/.cargo/config*",
    "/home/dev/.rustup/**",
    "/home/dev/.local/**",
    "/root/.cargo/**",
];

/// Globs of what a run is meant to write, for its job.
pub(super) fn expected(safety: &Safety) -> Vec<String> {
    let project = [format!("{PROJECT}/**"), PROJECT.to_owned()];
    let scratch = SCRATCH.iter().map(|glob| (*glob).to_owned());
    project.into_iter().chain(scratch).chain(safety.behaviour.writes.iter().cloned()).collect()
}

/// What one look at a change shows that the same look at its base does not.
pub(super) fn judge(safety: &Safety, base: &Seen, change: &Seen) -> Result<Vec<Violation>, suite::Error> {
    let mut found = Vec::new();
    writes(safety, base, change, &mut found)?;
    network(base, change, &mut found);
    processes(base, change, &mut found);
    ending(base, change, &mut found);
    Ok(found)
}

fn writes(
    safety: &Safety,
    base: &Seen,
    change: &Seen,
    found: &mut Vec<Violation>,
) -> Result<(), suite::Error> {
    let (meant, toolchain) = (suite::set(&expected(safety))?, suite::set(&TOOLCHAIN)?);
    let kept = [safety.tests()?, safety.protected()?];
    let allowed = safety.allowed()?;
    let known: BTreeSet<&str> = base.evaluation.effects.iter().map(|effect| effect.path.as_str()).collect();
    let new = change.evaluation.effects.iter().filter(|effect| !known.contains(effect.path.as_str()));
    for effect in new {
        let rule = match inside(&effect.path) {
            // What was laid there is looked at by itself.
            Some(path) if change.laid.contains_key(path) => None,
            Some(path) => within(path, &kept, &allowed),
            None if meant.is_match(&effect.path) => None,
            None if toolchain.is_match(&effect.path) => {
                Some(("behaviour.toolchain", "it changes what the project is built and run with"))
            }
            None => Some(("behaviour.writes_outside", "it writes outside of the workspace")),
        };
        if let Some((rule, message)) = rule {
            found.push(Violation::new(rule, message).at(&*effect.path).seen(told(change, effect)));
        }
    }
    rewritten(base, change, found);
    let omitted = |seen: &Seen| seen.evaluation.effects_omitted;
    let all_meant = change.evaluation.effects.iter().any(|effect| meant.is_match(&effect.path));
    // The undeclared come first: where declared ones are listed, only declared ones are missing.
    if omitted(change) > 0 && !all_meant {
        let message = format!("{} more effects are not listed", omitted(change));
        found.push(Violation::new("behaviour.unlisted", message));
    }
    Ok(())
}

/// Tests that are not any more what was laid into the VM, where the base's own run leaves its alone.
fn rewritten(base: &Seen, change: &Seen, found: &mut Vec<Violation>) {
    let before = rewrites(base);
    for (path, how) in rewrites(change) {
        if !before.contains_key(path) {
            let message = format!("it {how} what it is judged by while it runs");
            let seen = format!("read from the VM's disk ({} look)", change.look.as_str());
            found.push(Violation::new("behaviour.tests_rewritten", message).at(path).seen(seen));
        }
    }
}

fn rewrites(seen: &Seen) -> BTreeMap<&str, &'static str> {
    let there: BTreeMap<&str, &Effect> =
        seen.evaluation.effects.iter().filter_map(|effect| Some((inside(&effect.path)?, effect))).collect();
    let whole = seen.evaluation.effects_omitted == 0;
    let rewrite = |(path, hash): (&'_ str, &Sha256)| match there.get(path) {
        Some(effect) if effect.object != ObjectType::File => Some("replaces"),
        // One that is too large to be hashed is taken for what it was.
        Some(effect) => effect.sha256.is_some_and(|found| found != *hash).then_some("rewrites"),
        None => whole.then_some("deletes"),
    };
    let laid = seen.laid.iter().map(|(path, hash)| (path.as_str(), hash));
    laid.filter_map(|(path, hash)| Some((path, rewrite((path, hash))?))).collect()
}

/// What within the project must not be written by what runs there.
fn within(path: &str, kept: &[GlobSet; 2], allowed: &GlobSet) -> Option<(&'static str, &'static str)> {
    if path.split('/').any(|part| part == ".git") && (path.contains("/hooks") || path.ends_with("/config")) {
        return Some(("behaviour.git_hooks", "it plants what Git runs by itself"));
    }
    // Caches that runners leave beside tests are no tests.
    let cache = path.split('/').any(|part| part == "__pycache__" || part == ".pytest_cache");
    let is_kept = kept.iter().any(|set| set.is_match(path)) && !allowed.is_match(path) && !cache;
    is_kept.then_some(("behaviour.tests_rewritten", "it writes what it is judged by while it runs"))
}

fn told(seen: &Seen, effect: &Effect) -> String {
    let change = serde_json::to_value(effect.change).unwrap_or_default();
    let target = effect.target.as_ref().map_or_else(String::new, |target| format!(" -> {target}"));
    format!(
        "{} {} bytes, mode {}{target}, read from the VM's disk ({} look)",
        change.as_str().unwrap_or_default(),
        effect.size,
        effect.mode,
        seen.look.as_str()
    )
}

fn network(base: &Seen, change: &Seen, found: &mut Vec<Violation>) {
    let known: BTreeSet<String> = base.evaluation.network.iter().map(whither).collect();
    for contact in &change.evaluation.network {
        let to = whither(contact);
        if !known.contains(&to) {
            let message = format!("it tries to reach {to}");
            let seen =
                format!("{} attempts, seen by the host ({} look)", contact.attempts, change.look.as_str());
            found.push(Violation::new("behaviour.network", message).seen(seen));
        }
    }
}

fn whither(contact: &Contact) -> String {
    let place = contact.name.as_ref().or(contact.destination.as_ref()).map_or("?", String::as_str);
    let port = contact.port.map_or_else(String::new, |port| format!(":{port}"));
    format!("{place}{port} ({})", contact.protocol.as_str())
}

fn processes(base: &Seen, change: &Seen, found: &mut Vec<Violation>) {
    let (before, after) = (&base.evaluation, &change.evaluation);
    if after.processes_left > before.processes_left {
        let message = format!("it leaves {} processes running", after.processes_left - before.processes_left);
        let names = after.processes_left_names.join(", ");
        let seen = format!("{names} ({} look)", change.look.as_str());
        found.push(Violation::new("behaviour.processes_left", message).seen(seen));
    }
}

/// How the run as a whole ended, where the base's ended well.
fn ending(base: &Seen, change: &Seen, found: &mut Vec<Violation>) {
    if base.answer.is_none() || change.answer.is_some() || change.fault().is_some() {
        return;
    }
    let look = change.look.as_str();
    let violation = match (change.evaluation.status, change.evaluation.cause) {
        (Status::TimedOut, _) => Violation::new("budget.endless", format!("it does not end ({look} look)")),
        (Status::OutOfMemory, _) => {
            Violation::new("budget.memory", format!("it takes all memory ({look} look)"))
        }
        (_, Some(Cause::Budget)) => {
            Violation::new("budget.exceeded", format!("it exceeds a limit ({look} look)"))
        }
        (Status::Crashed, _) => {
            Violation::new("behaviour.crashed", format!("it takes the VM or its judge down ({look} look)"))
        }
        _ => Violation::new("runner.silenced", format!("the judge beside it gave no answer ({look} look)")),
    };
    found.push(violation.seen(change.because()));
}

#[cfg(test)]
mod tests {
    use super::super::order::{Answer, Look};
    use super::super::tree::{Entry, Tree};
    use super::*;
    use crate::cli::report::tests::sample;
    use evalfleet_proto::evaluation::Evaluation;

    fn seen(change: impl FnOnce(&mut Evaluation)) -> Seen {
        let mut evaluation = sample();
        evaluation.effects.clear();
        change(&mut evaluation);
        Seen { look: Look::Watched, evaluation, laid: BTreeMap::new(), answer: Some(Answer::default()) }
    }

    fn writing(path: &str) -> Seen {
        seen(|evaluation| {
            let mut effect = sample().effects.remove(0);
            path.clone_into(&mut effect.path);
            evaluation.effects.push(effect);
        })
    }

    fn rules(base: &Seen, change: &Seen) -> Vec<String> {
        let entry = Entry { mode: 0o100_644, oid: "aa".to_owned(), size: 1 };
        let tree = Tree([(b"tests/a.sh".to_vec(), entry)].into());
        let file = b"version = 1\n[behaviour]\nwrites = ['/srv/cache/**']".as_slice();
        let safety = Safety::of(&tree, Some(file), None).unwrap();
        judge(&safety, base, change).unwrap().into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn writes_are_told_by_where_they_go() {
        let base = seen(|_| ());
        for (path, rule) in [
            ("/home/dev/project/src/a", None),
            ("/tmp/x", None),
            ("/srv/cache/a/b", None),
            ("/etc/cron.d/x", Some("behaviour.writes_outside")),
            ("/home/dev/.bashrc", Some("behaviour.writes_outside")),
            ("/home/dev/project2", Some("behaviour.writes_outside")),
            ("/usr/local/bin/cc", Some("behaviour.toolchain")),
            ("/home/dev/.cargo/bin/rustc", Some("behaviour.toolchain")),
            ("/home/dev/project/.git/hooks/post-commit", Some("behaviour.git_hooks")),
            ("/home/dev/project/tests/a.sh", Some("behaviour.tests_rewritten")),
            ("/home/dev/project/tests/__pycache__/a.pyc", None),
        ] {
            let found = rules(&base, &writing(path));
            assert_eq!(found.first().map(String::as_str), rule, "{path}");
            assert_eq!(rules(&writing(path), &writing(path)), [""; 0], "the base does the same: {path}");
        }
    }

    #[test]
    fn tests_must_be_at_the_end_what_was_laid() {
        let path = "/home/dev/project/tests/a.sh";
        let with = |text: &[u8]| {
            let mut seen = writing(path);
            seen.laid = [("tests/a.sh".to_owned(), Sha256::of(b"set -e"))].into();
            seen.evaluation.effects[0].sha256 = Some(Sha256::of(text));
            seen
        };
        let gone = Seen { evaluation: seen(|_| ()).evaluation, ..with(b"") };
        assert_eq!(rules(&with(b"set -e"), &with(b"set -e")), [""; 0]);
        assert_eq!(rules(&with(b"set -e"), &with(b"true")), ["behaviour.tests_rewritten"]);
        assert_eq!(rules(&with(b"set -e"), &gone), ["behaviour.tests_rewritten"]);
        assert_eq!(rules(&with(b"true"), &with(b"true")), [""; 0]);
        // A test that the change brings.
        assert_eq!(rules(&seen(|_| ()), &with(b"set -e")), [""; 0]);
    }

    #[test]
    fn contacts_and_processes_are_told_where_the_base_has_none() {
        let base = seen(|_| ());
        let calls = seen(|evaluation| {
            let contact = r#"[{"protocol": "tcp", "destination": "1.2.3.4", "port": 443, "name": null, "attempts": 3, "allowed": false}]"#;
            evaluation.network = serde_json::from_str(contact).unwrap();
        });
        assert_eq!(rules(&base, &calls), ["behaviour.network"]);
        assert_eq!(rules(&calls, &calls), [""; 0]);
        let leaves = seen(|evaluation| evaluation.processes_left = 2);
        assert_eq!(rules(&base, &leaves), ["behaviour.processes_left"]);
        assert_eq!(rules(&leaves, &leaves), [""; 0]);
    }

    #[test]
    fn a_run_without_an_answer_is_told_by_how_it_ended() {
        let base = seen(|_| ());
        let ended = |status: Status, cause: Cause| Seen {
            answer: None,
            ..seen(|evaluation| (evaluation.status, evaluation.cause) = (status, Some(cause)))
        };
        for (status, cause, rule) in [
            (Status::TimedOut, Cause::Budget, "budget.endless"),
            (Status::OutOfMemory, Cause::Budget, "budget.memory"),
            (Status::LimitExceeded, Cause::Budget, "budget.exceeded"),
            (Status::Crashed, Cause::Subject, "behaviour.crashed"),
            (Status::Failed, Cause::Subject, "runner.silenced"),
        ] {
            assert_eq!(rules(&base, &ended(status, cause)), [rule]);
        }
        // What is our own fault says nothing of the change.
        assert_eq!(rules(&base, &ended(Status::Dead, Cause::Infrastructure)), [""; 0]);
    }
}
