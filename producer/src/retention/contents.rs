//! The contents that nothing points to any more.
//!
//! A fact points to a content by its hash, and so does the document that a fact points to: to its files, its output,
//! its effects. Which of a document's fields those are is not asked: whatever is the hash of a content stays.

use super::Error;
use evalfleet_datomic::Client;
use evalfleet_datomic::edn::Value;
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::Sha256;
use evalfleet_service::blobs::{self, Blobs};
use std::collections::{BTreeMap, BTreeSet};

/// Transactions read at once.
const AT_ONCE: u32 = 200;
/// The digits of a hash.
const DIGITS: usize = 64;

/// Removes what nothing points to and was last kept before `before`; answers how many, and their bytes.
///
/// What is newer stays: a job that has it may be in a queue.
pub(super) async fn collect(store: &Client, blobs: &Blobs, before: Timestamp) -> Result<(u64, u64), Error> {
    let mut old: BTreeMap<Sha256, u64> = blobs
        .entries()
        .await?
        .iter()
        .filter(|entry| entry.kept < before)
        .map(|entry| (entry.key, entry.bytes))
        .collect();
    if old.is_empty() {
        return Ok((0, 0));
    }
    let pointed = pointed(store).await?;
    for key in &pointed {
        old.remove(key);
    }
    for key in pointed {
        if old.is_empty() {
            break;
        }
        match blobs.get(key).await {
            Ok(content) => hashes(&content).for_each(|key| _ = old.remove(&key)),
            Err(blobs::Error::Missing(_) | blobs::Error::Damaged { .. }) => {
                tracing::warn!(%key, "the history points to a content that is missing or damaged");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut gone = (0, 0);
    for (key, bytes) in old {
        // It may have been kept again meanwhile.
        if blobs.entry(key).await?.is_some_and(|entry| entry.kept < before) {
            blobs.remove(key).await?;
            gone = (gone.0 + 1, gone.1 + bytes);
        }
    }
    Ok(gone)
}

/// What facts point to, as of any moment.
async fn pointed(store: &Client) -> Result<BTreeSet<Sha256>, Error> {
    let mut pointed = BTreeSet::new();
    let mut next = 0;
    loop {
        let log = store.tx_range(next, AT_ONCE).await?;
        let facts =
            log.transactions.iter().flat_map(|transaction| &transaction.datoms).filter(|fact| fact.added);
        pointed.extend(facts.filter_map(|fact| Value::as_str(&fact.value)?.parse::<Sha256>().ok()));
        if log.next_t > log.basis_t {
            return Ok(pointed);
        }
        next = log.next_t;
    }
}

/// All that may be a hash in a document: the first digits of every long enough run of them.
fn hashes(content: &[u8]) -> impl Iterator<Item = Sha256> + '_ {
    let runs = content.split(|byte| !byte.is_ascii_hexdigit()).filter(|run| run.len() == DIGITS);
    runs.filter_map(|run| std::str::from_utf8(run).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_of_a_document_is_found() {
        let (one, other) = (Sha256::of(b"one"), Sha256::of(b"other"));
        let text =
            format!(r#"{{"a": "{one}", "image": "sha256:{other}", "long": "{one}{other}", "no": "abc"}}"#);
        assert_eq!(hashes(text.as_bytes()).collect::<Vec<_>>(), [one, other]);
        assert_eq!(hashes(&[0xff; 200]).count(), 0);
    }
}
