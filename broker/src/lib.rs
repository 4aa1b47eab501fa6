//! RabbitMQ for evalfleet, and the only crate that names its client library.
//!
//! ```text
//!            Link ── keeps one live ──▶ Session ── opens ──▶ Consumer ──▶ Delivery<P>
//!             │                            │                                │
//!             └── publish, until confirmed ┴──▶ Confirmed ── settles ───────┘
//! ```
//!
//! A [`Session`] is one connection: it publishes, each publish awaiting its confirm, and consumes.
//! When it breaks it is thrown away; a [`Link`] makes the next one, over a list of nodes, with waits
//! between. A [`Delivery`] is settled only with a proof of the type its consumer was opened for: for a
//! job that is [`Confirmed`], which only a confirmed publish yields; dropping a delivery gives it back
//! to its queue. What messages mean is left to others. Under a session is a [`transport`]: RabbitMQ
//! (`amqp`), or in the simulation a broker in memory that breaks on purpose.

pub mod transport;

mod amqp;
mod convert;
mod delivery;
mod error;
mod inbox;
mod link;
mod log;
mod options;
mod session;
mod topology;

#[cfg(test)]
mod link_tests;

pub use amqp::Amqp;
pub use delivery::{Consumer, Delivery};
pub use error::Error;
pub use inbox::Inbox;
pub use link::Link;
pub use log::{Entry, Log};
pub use options::{Options, Tls};
pub use session::{Browser, Confirmed, Session};
