//! Where it is known what was done with letters before: the history, as the API tells it.

use super::{Card, Error, Filter};
use crate::api::Api;
use evalfleet_proto::ids::Sha256;
use futures::future::BoxFuture;
use std::fmt::Debug;

/// Tells what the history knows of letters.
pub trait Ledger: Debug + Send + Sync {
    /// Those that `filter` means, in a fixed order, `skip` of them passed over, and no more than `limit`.
    ///
    /// # Errors
    /// When the history cannot be asked.
    fn letters<'a>(
        &'a self,
        filter: &'a Filter,
        skip: usize,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Card>, Error>>;

    /// The hash of the message that a letter is about, if that is kept.
    ///
    /// # Errors
    /// When the history cannot be asked.
    fn body<'a>(&'a self, letter: &'a str) -> BoxFuture<'a, Result<Option<Sha256>, Error>>;
}

impl Ledger for Api {
    fn letters<'a>(
        &'a self,
        filter: &'a Filter,
        skip: usize,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Card>, Error>> {
        Box::pin(async move { Ok(self.dead_letters(filter, None, skip, limit).await?.dead_letters) })
    }

    fn body<'a>(&'a self, letter: &'a str) -> BoxFuture<'a, Result<Option<Sha256>, Error>> {
        Box::pin(async move {
            let document = self.dead_letter(letter, None).await?;
            Ok(document["body_sha256"].as_str().and_then(|key| key.parse().ok()))
        })
    }
}
