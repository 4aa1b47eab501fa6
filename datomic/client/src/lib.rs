//! Datomic, as the rest of evalfleet sees it.
//!
//! - [`edn`]: Datomic's data notation, read and written within bounds.
//! - [`guard`]: a query is code; only what a positive grammar lists is ever sent.
//! - [`settings`]: the EDN configuration that names the database.
//! - [`Client`]: the gateway's HTTP API, and the only place that names it.
//!
//! What is asked, and what results mean, is left to the recorder and to the API.

pub mod edn;
pub mod guard;
pub mod settings;

mod client;
mod error;
mod message;
mod reply;

pub use client::{Client, Config, Waiting};
pub use error::Error;
pub use message::{Batch, Bounds, Entity, NoPoint, Point, View};
pub use reply::{Answer, Copied, Datom, Health, Log, Retention, Shape, Status, Transacted, Transaction};
