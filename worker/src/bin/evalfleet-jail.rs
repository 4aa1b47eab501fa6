//! `evalfleet-jail`: what a worker starts QEMU with. See `vm::jail`.

use std::process::ExitCode;

fn main() -> ExitCode {
    evalfleet_worker::vm::jail::inside::main()
}
