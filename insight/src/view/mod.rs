//! Answers, made of the projection. Pure: a world and what is asked in, a document out.
//!
//! Every document names the transaction that it stands on (`basis_t`). Times are RFC 3339, durations in
//! milliseconds, sizes in bytes; a rate is a number from 0 to 1 with its Wilson bounds at 95 %.

pub mod alerts;
pub mod calls;
pub mod compare;
pub mod context;
pub mod dead;
pub mod diff;
pub mod healings;
pub mod images;
pub mod insights;
pub mod list;
pub mod overview;
pub mod questions;
pub mod queues;
pub mod rates;
pub mod runs;
pub mod series;
pub mod subjects;
pub mod workers;

mod brief;
mod evidence;
mod groups;

pub use brief::Brief;
pub use groups::Paged;

use crate::projection::World;
use evalfleet_proto::Timestamp;

/// A time of the projection as documents write it.
pub(crate) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn text(world: &World, symbol: Option<crate::projection::Symbol>) -> Option<String> {
    symbol.map(|symbol| world.symbols().text(symbol).to_owned())
}

fn milliseconds(microseconds: u64) -> Option<f64> {
    (microseconds > 0).then(|| microseconds as f64 / 1000.0)
}
