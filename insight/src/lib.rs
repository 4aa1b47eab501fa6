//! The REST API and the dashboard: what was recorded, as of any moment, and what happens now.
//!
//! ```text
//! gateway ──log──▶ projection ──▶ view ──▶ api ──▶ commands, programs, the dashboard
//!    ▲                              ▲       ▲
//!    └─ one evaluation, queries ────┼───────┤ history
//! broker ── events, depths ─────────┴───────┘ live, fleet
//! ```
//!
//! [`projection`] keeps what lists and rates need in memory, as of every transaction; [`view`] makes answers
//! of it (pure); [`dead`] keeps the dead letters likewise; [`api`] is the routes, with their OpenAPI document; [`history`] asks the store itself, for
//! what the projection has not; [`live`] and [`fleet`] tell what happens now; [`access`] says who may ask;
//! [`dashboard`] holds the pages. Errors are [`problem`] documents. It changes nothing in the history: what [`watch`] finds
//! to have become worse, and what [`heal`] does about the fleet itself, the recorder is told, and people are by [`tell`].

mod alone;
pub mod dead;
pub mod desk;
pub mod history;
pub mod json;
pub mod moment;
pub mod problem;

pub mod projection;
pub mod view;

pub mod watch;

pub mod heal;

pub mod tell;

pub mod fleet;
pub mod live;

pub mod access;
pub mod api;
pub mod dashboard;
pub mod server;

#[cfg(test)]
mod testing;
