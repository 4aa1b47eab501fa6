//! A job begins in the scenario that it names, and what that scenario set up is none of its effects.

use super::Test;
use super::shift::Shift;
use super::yard::Yard;
use evalfleet_images::recipe::Scenario;
use evalfleet_images::tool::ToolSpec;
use evalfleet_images::{Image, ImageRef, Store};
use evalfleet_proto::effect::Change;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::job::FunctionCall;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::submission::Submission;
use evalfleet_proto::units::ByteSize;
use evalfleet_tests::machine::patience;
use evalfleet_worker::vm::template::Timeouts;
use evalfleet_worker::vm::{Clean, Error, Template, accelerator, effects};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("scenarios::setup_belongs_to_the_template", setup_belongs_to_the_template),
    ("scenarios::a_setup_that_fails_or_lasts_too_long_is_named", faulty_setups),
    ("scenarios::warming_ends_where_a_job_waits", warming_ends_where_a_job_waits),
    ("scenarios::a_job_chooses_its_own", a_job_chooses_its_own),
];

/// Trials that build an image of their own: minutes.
pub(crate) const LONG: &[(&str, Test)] = &[
    ("scenarios::eval_repository", |yard| {
        repository(yard, "eval", "python3 -m unittest --help > unittest.txt")
    }),
    ("scenarios::rust_repository", |yard| repository(yard, "rust", "cargo test --offline")),
    ("scenarios::rust_builds_the_sample_crate", rust_builds),
    ("scenarios::rust_tools", |yard| cases(yard, "rust")),
];

/// Longer than a clone takes to be there, with some left.
const WARMING_SECONDS: u64 = 6;
const LIMITS: Timeouts = Timeouts { boot: Duration::from_secs(120), reset: Duration::from_secs(60) };

fn scenario(setup: &[&str], setup_seconds: u64) -> Scenario {
    let shell = |script: &&str| ["sh", "-c", script].map(ToOwned::to_owned).to_vec();
    Scenario {
        name: "trial".to_owned(),
        description: String::new(),
        setup: setup.iter().map(shell).collect(),
        setup_seconds,
        warm: Vec::new(),
        rewarm: vec![vec!["true".to_owned()]],
    }
}

fn template(yard: &Yard, scenario: &Scenario) -> Result<Arc<Template>, Error> {
    template_of(yard, yard.template().image().clone(), scenario)
}

fn template_of(yard: &Yard, image: Image, scenario: &Scenario) -> Result<Arc<Template>, Error> {
    let (machine, qemu) = (yard.template().machine().clone(), &yard.settings().qemu);
    yard.wait(async {
        let version = accelerator::qemu_version(&qemu.binary).await?;
        let dir = yard.settings().templates_dir();
        Template::ensure(&dir, qemu.templates_max, image, scenario, machine, version, LIMITS).await
    })
}

fn setup_belongs_to_the_template(yard: &Yard) {
    let setup = ["mkdir /workspace/repository", "echo one > /workspace/repository/a", "rm /etc/hostname"];
    let template = template(yard, &scenario(&setup, 60)).expect("a template");
    assert_ne!(template.digest(), yard.template().digest());

    let clean = yard.wait(Clean::prepare(
        template.clone(),
        &yard.folder(),
        "scenario",
        LIMITS.reset,
        CancellationToken::new(),
    ));
    let mut active = yard.wait(clean.expect("a clean VM").claim(LIMITS.reset)).expect("it wakes");
    let script = "cd repository && test ! -e /etc/hostname && grep one a && echo two > b && echo more >> a";
    yard.sh(&mut active, script).expect(0);
    let spent = yard.stop(active);
    let upper = effects::read_upper(spent.scratch()).expect("its disk");
    let expected = effects::Expected::new::<&str>(&[]).expect("no globs");
    let (found, omitted) = effects::compare(template.before(), &upper, &expected, 100);
    yard.wait(spent.destroy()).expect("QEMU dies");

    let found: Vec<_> = found.iter().map(|effect| (effect.path.as_str(), effect.change)).collect();
    let wanted = [("/workspace/repository/a", Change::Changed), ("/workspace/repository/b", Change::Created)];
    assert_eq!((found.as_slice(), omitted), (wanted.as_slice(), 0));
}

fn faulty_setups(yard: &Yard) {
    let failing = template(yard, &scenario(&["echo why >&2; exit 3"], 60)).expect_err("it fails").to_string();
    assert!(failing.contains("exit 3`") && failing.ends_with(": why"), "{failing}");
    let endless = template(yard, &scenario(&["sleep 600"], 1)).expect_err("it takes too long").to_string();
    assert!(endless.contains("`sh -c sleep 600` of the scenario trial did not end within 1 s"), "{endless}");
}

fn warming_ends_where_a_job_waits(yard: &Yard) {
    let lasting = vec!["sleep".to_owned(), WARMING_SECONDS.to_string()];
    let template = template(yard, &Scenario { rewarm: vec![lasting], ..scenario(&[], 60) });
    let template = template.expect("a template");
    // A job that waits from the beginning, one that comes while the clone warms, and none.
    for (comes, rushed) in [(Some(0), true), (Some(WARMING_SECONDS / 2), true), (None, false)] {
        let (folder, wanted) = (yard.folder(), CancellationToken::new());
        let limit = LIMITS.reset * patience();
        let clean = Clean::prepare(template.clone(), &folder, "scenario", limit, wanted.clone());
        let clean = yard.wait(async {
            let job = async {
                let Some(seconds) = comes else { return std::future::pending().await };
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                wanted.cancel();
                std::future::pending().await
            };
            tokio::select! { clean = clean => clean, () = job => unreachable!("it never ends") }
        });
        let clean = clean.expect("a clean VM");
        assert_eq!(clean.proof().rushed, rushed, "a job after {comes:?} s");
        let mut active = yard.wait(clean.claim(limit)).expect("it wakes");
        let left = "for it in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $it; done | grep -c '^sleep'";
        yard.sh(&mut active, left).expect(1);
        yard.wait(yard.stop(active).destroy()).expect("QEMU dies");
    }
}

fn a_job_chooses_its_own(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    let mut templates = Vec::new();
    for scenario in [None, Some("default"), Some("cold")] {
        let mut job = shift.script("true");
        job.scenario = scenario.map(ToOwned::to_owned);
        let report = shift.evaluate(&job);
        assert_eq!((report.status, report.effects.len()), (Status::Passed, 0), "{report:?}");
        templates.push(report.provenance.template);
    }
    assert_eq!(templates[0], templates[1]);
    assert_ne!(templates[0], templates[2]);
    let mut job = shift.script("true");
    job.scenario = Some("no-such".to_owned());
    let report = shift.evaluate(&job);
    assert_eq!((report.status, report.cause), (Status::Failed, Some(Cause::Harness)), "{report:?}");
    shift.end();
}

/// A worker whose jobs run in `image`, which is built if it is not there.
fn shift<'y>(yard: &'y Yard, image: &str) -> Shift<'y> {
    yard.machine().evalfleet(&["image", "build", image]).expect(0);
    Shift::with(yard, |settings| settings.client.image = image.parse().expect("an image's name"))
}

fn image(yard: &Yard, name: &str) -> Image {
    let reference: ImageRef = name.parse().expect("a name");
    Store::new(yard.settings().images_dir()).resolve(&reference).expect("it was built")
}

/// Makes the template that a job would have to wait for: a worker's patience is no matter of these trials.
fn set_up(yard: &Yard, name: &str, scenario: &str) {
    let image = image(yard, name);
    let scenario = image.manifest.scenario(scenario).expect("the scenario").clone();
    let begun = Instant::now();
    template_of(yard, image, &scenario).expect("a template");
    eprintln!("{name}, {}: template in {:.1} s", scenario.name, begun.elapsed().as_secs_f64());
}

/// What compiling takes under emulation, with the compiler's own memory: VMs of `rust` have that.
fn generous(mut submission: Submission, image: &str) -> Submission {
    submission.limits.wall = Duration::from_secs(900);
    submission.limits.cpu = Duration::from_secs(900);
    submission.limits.memory = ByteSize::mib(if image == "rust" { 768 } else { 256 });
    submission.limits.processes = 128;
    submission
}

fn tell(what: &str, report: &Evaluation) {
    eprintln!("{what}: {:?}", report.metrics);
}

fn repository(yard: &Yard, image: &str, script: &str) {
    let mut shift = shift(yard, image);
    set_up(yard, image, "repository");
    let ask =
        format!("cd repository && git log --oneline && git status --short && echo own > own.txt && {script}");
    let mut submission = generous(Submission::command(["sh", "-c", &ask]), image);
    submission.scenario = Some("repository".to_owned());
    submission.expected_effects =
        vec!["/workspace/repository/target/**".to_owned(), "/root/.cargo/**".to_owned()];
    let job = shift.job(submission);
    let report = shift.evaluate(&job);
    assert_eq!(report.status, Status::Passed, "{report:?}");
    tell(image, &report);
    let lines: Vec<_> = report.stdout.text.lines().take(2).collect();
    assert!(lines[0].ends_with("As it came"), "{lines:?}");
    let unexpected = report.effects.iter().filter(|effect| !effect.expected);
    for effect in unexpected {
        let own = effect.path.ends_with("/own.txt") || effect.path.ends_with("/unittest.txt");
        let notes = effect.path.starts_with("/workspace/repository/.git");
        assert!(own || notes, "{effect:?}");
    }
    assert!(report.effects.iter().any(|effect| effect.path == "/workspace/repository/own.txt"));
    shift.end();
}

fn rust_builds(yard: &Yard) {
    let mut shift = shift(yard, "rust");
    for scenario in ["default", "rust"] {
        set_up(yard, "rust", scenario);
        for command in ["cargo build --offline", "cargo test --offline"] {
            let script = format!("cd counter && {command}");
            let mut submission = generous(Submission::command(["sh", "-c", &script]), "rust");
            submission.scenario = Some(scenario.to_owned());
            let job = shift.job(submission);
            let report = shift.evaluate(&job);
            assert_eq!(report.status, Status::Passed, "{report:?}");
            tell(&format!("{scenario}: {command}"), &report);
            assert!(report.effects.iter().any(|it| it.path.starts_with("/workspace/counter/target/")));
        }
    }
    shift.end();
}

/// Runs the cases that the image's own tools state.
fn cases(yard: &Yard, name: &str) {
    let mut shift = shift(yard, name);
    let own = ["cargo_build", "cargo_check", "cargo_test", "clippy", "rustfmt"];
    let tools: Vec<ToolSpec> = image(yard, name).tools().expect("its tools");
    for tool in tools.iter().filter(|tool| own.contains(&tool.name.as_str())) {
        for case in &tool.cases {
            let submission = generous(
                Submission::function_call(FunctionCall {
                    name: tool.name.parse().expect("a tool's name"),
                    args: case.args.clone(),
                }),
                "rust",
            );
            let job = shift.job(submission);
            let report = shift.evaluate(&job);
            let answer = report.calls[0].value.clone().unwrap_or_default();
            let checked = case.expect.check(report.status == Status::Passed, &answer);
            assert_eq!(checked, Ok(()), "{}: {}: {report:?}", tool.name, case.name);
            let strange: Vec<_> = report.effects.iter().filter(|effect| !effect.expected).collect();
            assert!(strange.is_empty(), "{}: {}: {strange:?}", tool.name, case.name);
        }
    }
    shift.end();
}
