//! What an agent's REPL holds in its hands: a client library, dead letters, and the command
//! `evalfleet`.
//!
//! - [`client`] submits jobs and waits for their evaluations, across broken connections;
//!   [`registry`] checks the arguments of a tool before anything is enqueued.
//! - [`functions`] speaks of calls as models do, and tests them.
//! - [`toolbox`] keeps tools with their code, evaluates them, and puts bad ones into quarantine; [`mcp`] serves an
//!   image's to any agent.
//! - [`change`] evaluates changes to a repository, and makes those that are safe.
//! - [`gemini`] talks with a model that calls tools; [`suite`] puts questions to it and judges the answers.
//! - [`dead`] looks into the dead letters and replays them.
//! - [`replay`] runs any recorded evaluation again, and tells the first thing that comes out otherwise.
//! - [`api`] asks the REST API for what was recorded.
//! - [`machine`] runs the whole fleet on one machine, as supervised children.
//! - [`doctor`] checks what a machine needs, and says how to get it.
//! - [`cli`] is the command over all of them; [`repl`] is its interactive form.
//!
//! Running jobs, recording results and building images are other crates' business.

pub mod registry;

pub mod client;
pub mod dead;

mod person;
mod verdicts;

pub mod change;

pub mod functions;
pub mod toolbox;

pub mod gemini;
pub mod mcp;
pub mod suite;

pub mod api;

pub mod replay;

pub mod backup;
pub mod doctor;
pub mod machine;
pub mod retention;

pub mod cli;
pub mod repl;
