//! Sizes and durations as people write them (`256M`, `30s`) and as documents carry them (`…_ms`).

use crate::ids::ParseError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number of bytes. Written like QEMU's sizes: `256M` is 256 MiB; K, M, G and T are powers of 1024.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SizeText", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct ByteSize(pub u64);

const STEPS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

impl ByteSize {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new(text, "a size (such as 4096, 64K, 256M or 2G)");
        let trimmed = text.trim();
        let bare = trimmed.strip_suffix("iB").or_else(|| trimmed.strip_suffix('B')).unwrap_or(trimmed);
        let step = STEPS.iter().find(|(letter, _)| bare.to_ascii_uppercase().ends_with(*letter));
        let (digits, factor) = match step {
            Some((_, factor)) => (&bare[..bare.len() - 1], *factor),
            None => (bare, 1),
        };
        let count: u64 = digits.trim().parse().map_err(|_| error())?;
        count.checked_mul(factor).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match STEPS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((letter, factor)) => write!(f, "{}{letter}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

/// A size may stand in a document as text or as a bare number of bytes.
#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Number(u64),
    Text(String),
}

impl TryFrom<SizeText> for ByteSize {
    type Error = ParseError;
    fn try_from(text: SizeText) -> Result<Self, ParseError> {
        match text {
            SizeText::Number(bytes) => Ok(Self(bytes)),
            SizeText::Text(text) => text.parse(),
        }
    }
}

/// Reads a duration such as `30s`, `1m 30s` or `500ms`.
///
/// # Errors
/// Names the text and the form that was expected.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, ParseError> {
    humantime::parse_duration(text)
        .map_err(|_| ParseError::new(text, "a duration (such as 500ms, 30s or 1m 30s)"))
}

/// Serde form of a `Duration` as text: `"30s"`.
pub mod duration {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use std::time::Duration;

    /// Writes `30s`.
    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    /// Reads `30s`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

/// Serde form of a `Duration` as a number of milliseconds, with microseconds behind the point.
pub mod millis {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use std::time::Duration;

    /// Writes `25.1`.
    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_micros() as f64 / 1000.0)
    }

    /// Reads `25.1`; refuses what is negative or not a number.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let millis = f64::deserialize(from)?;
        let exact = Duration::try_from_secs_f64(millis / 1000.0).map_err(serde::de::Error::custom)?;
        Ok(Duration::from_micros(((exact.as_nanos() + 500) / 1000) as u64))
    }
}

/// Durations that may be missing, likewise.
pub mod maybe_millis {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use std::time::Duration;

    /// Writes `25.1`, or null.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::millis::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    /// Reads `25.1`, or null; refuses what is negative or not a number.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        #[derive(serde::Deserialize)]
        struct Millis(#[serde(with = "super::millis")] Duration);
        Ok(Option::<Millis>::deserialize(from)?.map(|Millis(value)| value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_qemu_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 65536),
            ("2048M", 2 << 30),
            ("20g", 20 << 30),
            ("1MiB", 1 << 20),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "99999999999T", "1X"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Timed(#[serde(with = "millis")] std::time::Duration);

    proptest! {
        #[test]
        fn sizes_survive_their_text(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }

        #[test]
        fn milliseconds_keep_their_microseconds(micros in 0u64..1_000_000_000_000) {
            let text = serde_json::to_string(&Timed(std::time::Duration::from_micros(micros))).unwrap();
            let back: Timed = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back.0.as_micros() as u64, micros);
        }
    }
}
