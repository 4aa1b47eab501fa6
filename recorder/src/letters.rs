//! What is recorded of the dead letters: the letters themselves, and what was done with them; and with them what people
//! say of verdicts, and what there is to say of alerts and of healings.
//!
//! They come in a queue of their own, out of the same exchange as those in `eval.dead`: recording one
//! takes it from here and leaves it there, to be replayed.

use evalfleet_broker::Delivery;
use evalfleet_proto::alert::{Alert, Judgement, Said};
use evalfleet_proto::amendment::Amendment;
use evalfleet_proto::dead::{Did, Handled, Letter};
use evalfleet_proto::envelope::MessageType;
use evalfleet_proto::healing::{Decision, Healing, Wanted};
use evalfleet_proto::ids::Sha256;
use evalfleet_proto::wire;

/// Something to be recorded about the dead letters, about a verdict, an alert, or a healing.
#[derive(Debug)]
pub struct Noted {
    /// What names the message: whoever sends it again is told so.
    pub message: Sha256,
    /// What.
    pub what: What,
}

/// What there is to record.
#[derive(Debug)]
pub enum What {
    /// A letter.
    Letter(Box<Letter>),
    /// What was done with one.
    Handled(Handled),
    /// A verdict that is to be another one.
    Amended(Amendment),
    /// How an alert stands.
    Alert(Box<Alert>),
    /// What a person says of one.
    Judged(Judgement),
    /// How a healing stands.
    Healing(Box<Healing>),
    /// What a person decides about one.
    Decided(Decision),
}

impl Noted {
    /// Reads a message.
    ///
    /// # Errors
    /// When it tells of something that was done, and does not say what. A letter is always one.
    pub fn read<P>(delivery: &Delivery<P>) -> Result<Self, String> {
        let message = Sha256::of(&delivery.body);
        let kind = delivery.envelope.as_ref().map(|envelope| envelope.kind);
        let what = if kind == Some(MessageType::Handled) {
            match wire::decode::<Handled>(&delivery.body) {
                Ok(Handled { did: Did::Unknown, .. }) => return Err("a newer version did that".to_owned()),
                Ok(handled) => What::Handled(handled),
                Err(error) => return Err(error.to_string()),
            }
        } else if kind == Some(MessageType::Amendment) {
            What::Amended(wire::decode(&delivery.body).map_err(|error| error.to_string())?)
        } else if kind == Some(MessageType::Alert) {
            What::Alert(wire::decode(&delivery.body).map_err(|error| error.to_string())?)
        } else if kind == Some(MessageType::Judgement) {
            match wire::decode::<Judgement>(&delivery.body) {
                Ok(Judgement { said: Said::Unknown, .. }) => {
                    return Err("a newer version said that".to_owned());
                }
                Ok(judgement) => What::Judged(judgement),
                Err(error) => return Err(error.to_string()),
            }
        } else if kind == Some(MessageType::Healing) {
            What::Healing(wire::decode(&delivery.body).map_err(|error| error.to_string())?)
        } else if kind == Some(MessageType::Decision) {
            match wire::decode::<Decision>(&delivery.body) {
                Ok(Decision { wanted: Wanted::Unknown, .. }) => {
                    return Err("a newer version decided that".to_owned());
                }
                Ok(decision) => What::Decided(decision),
                Err(error) => return Err(error.to_string()),
            }
        } else {
            What::Letter(Box::new(Letter::read(delivery.envelope.as_ref(), &delivery.key, &delivery.body)))
        };
        Ok(Self { message, what })
    }
}
