//! What a store's log comes to: two stores that say the same have the same.

use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Client, Error, Transaction};
use evalfleet_proto::ids::Sha256;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Transactions read at once.
const AT_ONCE: u32 = 200;

/// A log up to a transaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fingerprint {
    pub(super) transactions: u64,
    pub(super) datoms: u64,
    /// Of each transaction's text, and of the digest before it.
    pub(super) digest: Sha256,
    /// The documents that it points to, and the jobs.
    pub(super) documents: BTreeSet<Sha256>,
}

impl Fingerprint {
    /// Reads the log of a store, up to the transaction `basis_t`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn of(store: &Client, basis_t: u64) -> Result<Self, Error> {
        let mut print =
            Self { transactions: 0, datoms: 0, digest: Sha256::of(b""), documents: BTreeSet::new() };
        let mut next = 0;
        while next <= basis_t {
            let log = store.tx_range(next, AT_ONCE).await?;
            log.transactions
                .iter()
                .filter(|transaction| transaction.t <= basis_t)
                .for_each(|one| print.add(one));
            if log.next_t > log.basis_t {
                break;
            }
            next = log.next_t;
        }
        Ok(print)
    }

    fn add(&mut self, transaction: &Transaction) {
        let mut facts: Vec<String> = transaction
            .datoms
            .iter()
            .map(|fact| format!("{} {} {} {}\n", fact.entity, fact.attribute, fact.value, fact.added))
            .collect();
        // A log says of one transaction's facts no order.
        facts.sort();
        let mut text = format!("{} {} {}\n", self.digest, transaction.t, transaction.tx_instant);
        facts.iter().for_each(|fact| _ = text.write_str(fact));
        self.digest = Sha256::of(text.as_bytes());
        self.transactions += 1;
        self.datoms += facts.len() as u64;
        let points = |attribute: &str| {
            matches!(attribute, "evaluation/document" | "evaluation/job" | "dead-letter/document")
        };
        let documents = transaction.datoms.iter().filter(|fact| fact.added && points(&fact.attribute));
        self.documents
            .extend(documents.filter_map(|fact| Value::as_str(&fact.value)?.parse::<Sha256>().ok()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_datomic::Datom;
    use evalfleet_proto::Timestamp;

    fn print(facts: &[(i64, &str)]) -> Fingerprint {
        let mut print =
            Fingerprint { transactions: 0, datoms: 0, digest: Sha256::of(b""), documents: BTreeSet::new() };
        let datom = |(entity, value): &(i64, &str)| Datom {
            entity: *entity,
            attribute: "evaluation/document".to_owned(),
            value: Value::Str((*value).to_owned()),
            added: true,
        };
        print.add(&Transaction {
            t: 1,
            tx_instant: Timestamp::UNIX_EPOCH,
            datoms: facts.iter().map(datom).collect(),
        });
        print
    }

    #[test]
    fn the_order_of_facts_is_nothing_and_their_values_are_all() {
        let key = Sha256::of(b"document").to_string();
        let one = print(&[(1, "a"), (2, &key)]);
        assert_eq!(one, print(&[(2, &key), (1, "a")]));
        assert_ne!(one.digest, print(&[(2, &key), (1, "b")]).digest);
        assert_ne!(one.digest, print(&[(1, "a")]).digest);
        assert_eq!(one.documents, BTreeSet::from([Sha256::of(b"document")]));
    }
}
