use super::*;
use clap::CommandFactory as _;
use evalfleet_proto::job::Limits;
use evalfleet_proto::units::ByteSize;
use std::time::Duration;

fn run(words: &[&str]) -> RunArgs {
    let cli = Cli::try_parse_from([&["evalfleet", "run"], words].concat()).unwrap();
    let Command::Run(args) = cli.command else { panic!("not run") };
    args
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn flags_become_a_submission_and_the_subjects_own_flags_stay_its_own() {
    let args =
        run(&["--wall", "5s", "--memory", "64M", "--label", "suite=s", "--urgent", "--", "ls", "--all"]);
    let submission = args.submission();
    assert_eq!(submission.argv, ["ls", "--all"]);
    assert_eq!(submission.limits.wall, Duration::from_secs(5));
    assert_eq!(submission.limits.memory, ByteSize::mib(64));
    assert_eq!(submission.limits.processes, Limits::default().processes);
    assert!(submission.urgent && submission.labels["suite"] == "s");
    assert_eq!(run(&["ls", "-la", "--json"]).argv, ["ls", "-la", "--json"]);
}

#[test]
fn more_time_on_the_clock_is_more_on_the_processors() {
    assert_eq!(run(&["--wall", "5m", "true"]).submission().limits.cpu, Duration::from_secs(300));
    assert_eq!(run(&["--wall", "5m", "--cpu", "1s", "true"]).submission().limits.cpu, Duration::from_secs(1));
}

#[test]
fn what_does_not_fit_is_refused() {
    for words in [
        vec!["evalfleet", "run"],
        vec!["evalfleet", "run", "--priority", "10", "true"],
        vec!["evalfleet", "run", "--memory", "lots", "true"],
        vec!["evalfleet", "dead", "replay"],
        vec!["evalfleet", "dance"],
    ] {
        assert!(Cli::try_parse_from(&words).is_err(), "{words:?}");
    }
}
