//! The command `evalfleet`.

use std::process::ExitCode;

fn main() -> ExitCode {
    evalfleet::cli::main()
}
