//! What evalfleet costs, measured on the machine at hand.
//!
//! [`reset`] compares ways to a clean VM, interleaved in one run; [`pace`] is how many jobs go one after the
//! other; [`queue`] times jobs without a VM; [`submit`] is how fast they are submitted, [`backlog`] how
//! that goes when nobody takes them; [`stream`] is output on its way;
//! [`soak`] runs thousands of jobs that look for each other's marks;
//! [`effects`] is how long a job's effects take to be known;
//! [`history`] records a hundred thousand evaluations and as many dead letters, and asks for them.
//! [`entrust`] is what tools and changes cost beyond their own commands.
//! All give a [`report::Report`]: numbers with the [`host::Host`] they were taken on, as a table or as
//! JSON. Nothing here passes or fails by a time.

pub mod backlog;
pub mod effects;
pub mod entrust;
pub mod history;
pub mod pace;
pub mod queue;
pub mod reset;
pub mod soak;
pub mod stand;
pub mod stream;
pub mod submit;

pub mod host;
mod parts;
pub mod report;
pub mod series;
