//! The REST API: what was recorded, and questions on the history. It reads, and writes nothing.
//!
//! | | |
//! |---|---|
//! | `GET /health` | whether the API and the store behind it answer; needs no token |
//! | `GET /v1/evaluations?limit=&as_of=` | the newest evaluations, as of any moment |
//! | `GET /v1/evaluations/{id}?as_of=` | one evaluation, whole |
//! | `POST /v1/query` | a Datalog question: only what the positive grammar lists is ever asked |
//!
//! Every answer names the transaction it stands on (`basis_t`, and the header `evalfleet-basis-t`).
//! Errors are `application/problem+json`. [`history`] asks, [`json`] translates (pure), [`problem`]
//! says what went wrong; the others are the routes.

pub mod history;
pub mod json;
pub mod problem;

pub mod access;
pub mod routes;
pub mod server;
