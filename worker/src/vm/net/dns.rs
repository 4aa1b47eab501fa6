//! Questions for names, and their answers: pure.

use evalfleet_proto::network::name_of;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, OPCODE, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use std::net::Ipv4Addr;

/// How long a guest may remember an answer: an address stands for its name as long as its VM lives.
const TTL: u32 = 60;

/// A question for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The name, in small letters.
    pub(super) name: String,
    /// Whether it is for an address of IPv4; any other is answered with nothing.
    pub(super) wants_address: bool,
    message: Vec<u8>,
}

/// What is said to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is there, at an address of ours.
    Address(Ipv4Addr),
    /// It may not be asked for.
    Refused,
    /// Whether it is there could not be found out.
    Failed,
}

impl Question {
    /// Reads a message; none when it is no question for one name.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let packet = Packet::parse(message).ok()?;
        if packet.has_flags(PacketFlag::RESPONSE) || packet.opcode() != OPCODE::StandardQuery {
            return None;
        }
        let [question] = &packet.questions[..] else { return None };
        let name = question.qname.to_string();
        Some(Self {
            // What is no host's name goes into the record, and on to no resolver and no terminal.
            name: name_of(&name).unwrap_or_else(|| name.escape_default().to_string()),
            wants_address: question.qtype == QTYPE::TYPE(TYPE::A),
            message: message.to_vec(),
        })
    }

    /// Writes the answer; none when the question cannot be written back.
    pub(super) fn answer(&self, answer: Answer) -> Option<Vec<u8>> {
        let asked = Packet::parse(&self.message).ok()?;
        let question = asked.questions.first()?.clone();
        let mut reply = Packet::new_reply(asked.id());
        reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
        if asked.has_flags(PacketFlag::RECURSION_DESIRED) {
            reply.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        match answer {
            Answer::Address(address) if self.wants_address => {
                let data = RData::A(A { address: address.into() });
                reply.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data));
            }
            // The name is there, and has nothing of that kind.
            Answer::Address(_) => {}
            Answer::Refused => *reply.rcode_mut() = RCODE::Refused,
            Answer::Failed => *reply.rcode_mut() = RCODE::ServerFailure,
        }
        reply.questions.push(question);
        reply.build_bytes_vec().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::{Name, QCLASS};

    fn query(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new(name).unwrap();
        packet.questions.push(simple_dns::Question::new(
            name,
            QTYPE::TYPE(kind),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        packet.build_bytes_vec().unwrap()
    }

    fn answered(message: &[u8], answer: Answer) -> (RCODE, usize) {
        let reply = Question::read(message).unwrap().answer(answer).unwrap();
        let reply = Packet::parse(&reply).unwrap();
        assert!(reply.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED) && reply.id() == 7);
        assert_eq!(reply.questions.len(), 1);
        (reply.rcode(), reply.answers.len())
    }

    #[test]
    fn each_answer_has_its_code() {
        let (a, aaaa) = (query("Example.COM", TYPE::A), query("example.com", TYPE::AAAA));
        assert_eq!(Question::read(&a).unwrap().name, "example.com");
        let address = Answer::Address(Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(answered(&a, address), (RCODE::NoError, 1));
        assert_eq!(answered(&aaaa, address), (RCODE::NoError, 0));
        assert_eq!(answered(&a, Answer::Refused), (RCODE::Refused, 0));
        assert_eq!(answered(&a, Answer::Failed), (RCODE::ServerFailure, 0));
    }

    #[test]
    fn an_answer_is_no_question() {
        let reply = Question::read(&query("a.org", TYPE::A)).unwrap().answer(Answer::Refused).unwrap();
        assert_eq!(Question::read(&reply), None);
    }

    #[test]
    fn a_name_that_is_none_cannot_steer_a_terminal() {
        let mut message = query("abc.org", TYPE::A);
        message[13] = 0x1b;
        let name = Question::read(&message).unwrap().name;
        assert!(name.is_ascii() && !name.contains('\u{1b}'), "{name:?}");
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(message in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some(question) = Question::read(&message) {
                let _ = question.answer(Answer::Refused);
            }
        }

        #[test]
        fn nor_does_a_damaged_question(at in 0usize..29, byte: u8) {
            let mut message = query("example.com", TYPE::A);
            message[at] = byte;
            if let Some(question) = Question::read(&message) {
                let _ = question.answer(Answer::Address(Ipv4Addr::LOCALHOST));
            }
        }
    }
}
