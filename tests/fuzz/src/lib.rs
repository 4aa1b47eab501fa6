//! What the fuzzer calls, and the tests with the corpus: `worker/tests/corpus.rs`, `datomic/client/tests/guard.rs`.

mod guard;
mod sparse;
mod targets;

pub use guard::guard;
pub use sparse::{expand, pack};
pub use targets::{disk, frames, network};
