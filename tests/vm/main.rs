//! One VM at a time, on real QEMU: what a worker's own library does, without a broker.
//!
//! `cargo test --workspace --test vm -- NAME` runs the trials whose names contain NAME. Each area
//! is a module with its own `ALL`; they share one template through [`yard::Yard`], but for [`foreign`],
//! which has images of its own. Those of a `LONG` take minutes:
//! `-- --ignored` runs them.

mod accelerator;
mod effects;
mod faults;
mod foreign;
mod jail;
mod limits;
mod network;
mod reset;
mod scenarios;
mod shift;
mod strategies;
mod supply;
mod yard;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use yard::Yard;

/// A trial in the shared yard.
type Test = fn(&Yard);

/// Every area, in the order of its running; long trials come after them.
const AREAS: &[&[(&str, Test)]] = &[
    reset::ALL,
    supply::ALL,
    strategies::ALL,
    scenarios::ALL,
    effects::ALL,
    limits::ALL,
    jail::ALL,
    network::ALL,
    faults::ALL,
    accelerator::ALL,
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two cores, and some of them break things on purpose.
    arguments.test_threads = Some(1);
    let shared = Arc::new(OnceLock::new());
    let trial = |long: bool| {
        let shared = shared.clone();
        move |(name, test): &(&str, Test)| {
            let (shared, test) = (shared.clone(), *test);
            let run = move || {
                test(shared.get_or_init(Yard::open));
                Ok(())
            };
            Trial::test(*name, run).with_ignored_flag(long)
        }
    };
    let usual = AREAS.iter().copied().flatten().map(trial(false));
    let long = [scenarios::LONG].into_iter().flatten().map(trial(true));
    let foreign = foreign::LONG.iter().map(|(name, test)| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(*name, run).with_ignored_flag(true)
    });
    let conclusion = libtest_mimic::run(&arguments, usual.chain(foreign).chain(long).collect());
    // Statics are not dropped, an Arc is: what was made is put away.
    drop(shared);
    conclusion.exit_code()
}
