//! What the fuzzer calls, and the unit tests with the corpus: `worker/tests/corpus.rs`.

mod sparse;
mod targets;

pub use sparse::{expand, pack};
pub use targets::{disk, frames, network};
