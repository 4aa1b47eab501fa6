//! What a guest tried to reach, as the host saw it: bounded, with equal attempts counted together.

use evalfleet_proto::network::{Contact, Protocol};

/// Contacts that are listed; attempts at others are counted.
const CONTACTS_MAX: usize = 100;

/// One attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) destination: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) name: Option<String>,
    pub(super) allowed: bool,
    pub(super) error: Option<String>,
}

/// The book of one job.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    tally: Tally,
}

/// What it comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// What was tried, in the order of the first attempts.
    pub contacts: Vec<Contact>,
    /// Attempts at what the bounded list has no room for.
    pub omitted: u64,
    /// Bytes of frames that the guest received.
    pub received_bytes: u64,
    /// Bytes of frames that it sent.
    pub sent_bytes: u64,
    /// All that its connections might carry, if that was used up: it was cut off then.
    pub cut_off_at: Option<u64>,
}

impl Ledger {
    pub(super) fn note(&mut self, protocol: Protocol, attempt: Attempt) {
        let Attempt { destination, port, name, allowed, error } = attempt;
        let same = |known: &&mut Contact| {
            (known.protocol, known.port, known.allowed) == (protocol, port, allowed)
                && (&known.destination, &known.name, &known.error) == (&destination, &name, &error)
        };
        if let Some(known) = self.tally.contacts.iter_mut().find(same) {
            known.attempts += 1;
        } else if self.tally.contacts.len() < CONTACTS_MAX {
            let attempts = 1;
            self.tally.contacts.push(Contact { protocol, destination, port, name, attempts, allowed, error });
        } else {
            self.tally.omitted += 1;
        }
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.tally.sent_bytes += bytes as u64;
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.tally.received_bytes += bytes as u64;
    }

    /// Its connections had all that they might carry.
    pub(super) fn cut_off(&mut self, at: u64) {
        self.tally.cut_off_at = Some(at);
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_attempts_are_counted_and_the_list_is_bounded() {
        let mut ledger = Ledger::default();
        for round in 0..3 {
            for port in 0..150 {
                ledger.note(Protocol::Tcp, Attempt { port: Some(port), ..Attempt::default() });
            }
            assert_eq!(ledger.tally().contacts[0].attempts, round + 1);
        }
        let tally = ledger.tally();
        assert_eq!((tally.contacts.len(), tally.omitted), (CONTACTS_MAX, 150));
    }
}
