//! The whole, on real parts. One machine is brought up; the trials share it, one after the other.
//!
//! `cargo test --workspace --test whole -- NAME` runs those whose names contain NAME; `--list` lists them,
//! `--ignored` runs the long ones.

mod agent;
mod alerts;
mod api;
mod backup;
mod broker;
mod cancel;
mod change;
mod dead;
mod drain;
mod errors;
mod facts;
mod faults;
mod healing;
mod history;
mod inputs;
mod insight;
mod library;
mod life;
mod line;
mod overtime;
mod pile;
mod pressure;
mod refusal;
mod repl;
mod replay;
mod repository;
mod retention;
mod roles;
mod s3;
mod suite;
mod tls;
mod told;
mod tools;

use evalfleet_proto::status::Exit;
use evalfleet_service::part;
use evalfleet_tests::machine::Machine;
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

/// A trial on the shared machine.
type Test = fn(&Machine);

/// The machine, brought up by the first trial that needs it.
#[derive(Default)]
struct Shared(OnceLock<Machine>);

impl Shared {
    fn machine(&self) -> &Machine {
        self.0.get_or_init(|| {
            let machine = Machine::new();
            machine.up(1);
            machine
        })
    }
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(pile::ROLE) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        return runtime.block_on(part::run(None, async |settings| {
            pile::work(settings).await?;
            Ok(Exit::Passed)
        }));
    }
    let mut arguments = Arguments::from_args();
    // They share a machine, and some of them break it on purpose.
    arguments.test_threads = Some(1);
    let shared = Arc::new(Shared::default());
    let on_machine = |(name, test): &(&'static str, Test)| {
        let (shared, test) = (shared.clone(), *test);
        Trial::test(*name, move || {
            test(shared.machine());
            Ok(())
        })
    };
    let alone = |(name, test): &(&'static str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    // An import keeps its own times only in a fresh history: it comes first.
    let mut trials: Vec<Trial> = repository::ALL.iter().map(alone).collect();
    trials.extend(broker::trials());
    let own = [
        errors::ALONE,
        tls::ALONE,
        life::ALONE,
        retention::ALONE,
        overtime::ALONE,
        pressure::ALONE,
        s3::ALONE,
        alerts::ALONE,
        healing::ALONE,
        told::ALONE,
    ];
    trials.extend(own.into_iter().flatten().map(alone));
    let groups = [history::ALL, line::ALL, repl::ALL, tools::ALL, library::ALL]
        .into_iter()
        .chain(change::ALL.iter().copied());
    for group in groups.chain([
        errors::ALL,
        cancel::ALL,
        drain::ALL,
        life::ALL,
        dead::ALL,
        api::ALL,
        replay::ALL,
        inputs::ALL,
        suite::ALL,
        agent::ALL,
        backup::ALL,
        insight::ALL,
        roles::ALL,
        pressure::ALL,
        refusal::ALL,
        // It counts what all before it recorded.
        facts::ALL,
        // The last of them ends the machine.
        faults::ALL,
    ]) {
        trials.extend(group.iter().map(on_machine));
    }
    trials.extend([&pile::LONG, &backup::LONG].map(|long| alone(long).with_ignored_flag(true)));
    // `-- --ignored` runs them.
    let long = tools::LONG.iter().chain(change::LONG.iter().copied().flatten());
    trials.extend(long.map(on_machine).map(|trial| trial.with_ignored_flag(true)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Statics are not dropped, an Arc is: what was brought up is put away.
    drop(shared);
    conclusion.exit_code()
}
