//! Names of things: newtypes, so that a job id is never taken for a batch name.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseError {
    /// What was given, cut to 80 characters.
    pub text: String,
    /// What was expected, with its article.
    pub expected: &'static str,
}

impl ParseError {
    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), expected }
    }
}

/// Names one job, from before its first publish to the end of history: a UUIDv7, so that ids sort by
/// the time of their submission.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct JobId(Uuid);

impl JobId {
    /// Makes a fresh id from the current time and the system's random numbers.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// When it was made, as it tells itself; `None` for one that was made out of a key.
    pub fn made(self) -> Option<jiff::Timestamp> {
        let (seconds, nanoseconds) = self.0.get_timestamp()?.to_unix();
        let made =
            jiff::Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()?;
        (made > jiff::Timestamp::UNIX_EPOCH).then_some(made)
    }

    /// Derives the id of the `nth` replay of `self`: the same inputs give the same id, so that a
    /// replay that was interrupted and is repeated cannot make two jobs.
    ///
    /// The time of the original stays in front, the random bits are SHA-256 over the original id and
    /// `nth`.
    pub fn derived(self, purpose: &str, nth: u32) -> Self {
        let hash = sha2::Sha256::new()
            .chain_update(self.0.as_bytes())
            .chain_update(purpose.as_bytes())
            .chain_update(nth.to_be_bytes())
            .finalize();
        let mut bytes = *self.0.as_bytes();
        bytes[6..].copy_from_slice(&hash[..10]);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        Self(Uuid::from_bytes(bytes))
    }

    /// Makes the id that an idempotency key stands for: the same key, the same job.
    pub fn from_key(key: &str) -> Self {
        Self(Uuid::from_bytes([0; 16])).derived(key, 0)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        match Uuid::parse_str(text) {
            Ok(uuid) if uuid.get_version_num() == 7 => Ok(Self(uuid)),
            _ => Err(ParseError::new(text, "a job id (a UUID of version 7)")),
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

/// Names one alert: a UUIDv7 out of the first evaluation that speaks for it, so that whoever finds the same again gives
/// it the same name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct AlertId(JobId);

impl AlertId {
    /// The alert about `subject` of this kind that begins with the evaluation `first`.
    pub fn of(first: JobId, kind: &str, subject: &str) -> Self {
        Self(first.derived(&format!("alert/{kind}/{subject}"), 0))
    }

    /// The name of messages about it.
    pub fn message(self) -> JobId {
        self.0
    }

    /// The job that runs `evaluation` again for it, the `nth` time: asked for twice it is one job.
    pub fn rerun(self, evaluation: JobId, nth: u32) -> JobId {
        evaluation.derived(&format!("alert/{}", self.0), nth)
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AlertId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let id = text.parse().map_err(|_| ParseError::new(text, "an alert's id (a UUID of version 7)"))?;
        Ok(Self(id))
    }
}

/// Names one healing: a UUIDv7 out of what was found and when that began, so that whoever finds the same again gives it
/// the same name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct HealingId(JobId);

impl HealingId {
    /// The healing of `subject`, of which `detector` found `evidence`, the first of it from the moment `began`.
    pub fn of(detector: &str, subject: &str, began: jiff::Timestamp, evidence: &str) -> Self {
        let millis = u64::try_from(began.as_millisecond()).unwrap_or(0).to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&millis[2..]);
        Self(JobId(Uuid::from_bytes(bytes)).derived(&format!("healing/{detector}/{subject}/{evidence}"), 0))
    }

    /// The name of messages about it.
    pub fn message(self) -> JobId {
        self.0
    }
}

impl fmt::Display for HealingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for HealingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HealingId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let id = text.parse().map_err(|_| ParseError::new(text, "a healing's id (a UUID of version 7)"))?;
        Ok(Self(id))
    }
}

/// Defines a newtype over a text of 1 to `$max` characters out of letters, digits and `$extra`.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:literal, $extra:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let fits = |c: char| c.is_ascii_alphanumeric() || $extra.contains(c);
                if (1..=$max).contains(&text.len()) && text.chars().all(fits) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(ParseError::new(text, $expected))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;
            fn try_from(text: String) -> Result<Self, ParseError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// Names a batch: the jobs that were submitted together.
    BatchId, 128, "-_.:", "a batch name (1 to 128 letters, digits, - _ . :)"
);
name!(
    /// Names a lane: a queue of jobs with its own order.
    Lane, 32, "-_", "a lane (1 to 32 letters, digits, - _)"
);
name!(
    /// Names a worker within its fleet.
    WorkerId, 64, "-_.", "a worker name (1 to 64 letters, digits, - _ .)"
);
name!(
    /// Names a tool, as a Gemini function declaration does.
    ToolName, 64, "-_.", "a tool name (1 to 64 letters, digits, - _ .)"
);
name!(
    /// Names an image, optionally pinned: `base` or `base@sha256:<64 hex>`.
    ImageName, 64, "-_.", "an image name (1 to 64 letters, digits, - _ .)"
);

impl Lane {
    /// The lane of jobs that ask for none.
    pub fn default_lane() -> Self {
        Self("default".to_owned())
    }

    /// What stands for a lane in the letters of results that cannot be recorded.
    pub fn results() -> Self {
        Self("results".to_owned())
    }

    /// The lane that overtakes the others.
    pub fn urgent() -> Self {
        Self("urgent".to_owned())
    }
}

/// A SHA-256 digest. Written as 64 hexadecimal digits; `sha256:` in front is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Computes the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Takes a digest that was computed elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes)
            .map_err(|_| ParseError::new(text, "a SHA-256 digest (64 hexadecimal digits)"))?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

/// An image as a job names it: by name, and by digest when it must be exactly that one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct ImageRef {
    /// The image's name.
    pub name: ImageName,
    /// The digest it is pinned to, if any.
    pub digest: Option<Sha256>,
}

impl FromStr for ImageRef {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        Ok(Self { name: name.parse()?, digest })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => write!(f, "{}@sha256:{digest}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_sort_by_time() {
        let (a, b) = (JobId::fresh(), JobId::fresh());
        assert!(a < b, "{a} was made before {b}");
        assert_eq!(a.to_string().parse(), Ok(a));
        let v4 = "9b2fe4a8-1c7e-4a8e-8f0e-0c6d4ed1c9aa";
        assert!(v4.parse::<JobId>().is_err());
    }

    #[test]
    fn a_replay_has_one_id_however_often_it_is_asked_for() {
        let id = JobId::fresh();
        assert_eq!(id.derived("replay", 1), id.derived("replay", 1));
        assert_ne!(id.derived("replay", 1), id.derived("replay", 2));
        assert_ne!(id.derived("replay", 1), id);
        assert_eq!(id.derived("replay", 1).to_string().parse(), Ok(id.derived("replay", 1)));
    }

    #[test]
    fn a_healing_has_one_name_and_tells_when_it_began() {
        let began = jiff::Timestamp::from_millisecond(1_750_000_000_123).unwrap();
        let of = |subject| HealingId::of("bad_worker", subject, began, "x");
        assert_eq!(of("worker=a"), of("worker=a"));
        assert_ne!(of("worker=a"), of("worker=b"));
        assert_eq!(of("worker=a").message().made(), Some(began));
        assert_eq!(of("worker=a").to_string().parse(), Ok(of("worker=a")));
    }

    #[test]
    fn image_references_carry_their_digest() {
        let digest = Sha256::of(b"x");
        let text = format!("base@sha256:{digest}");
        let image: ImageRef = text.parse().unwrap();
        assert_eq!(image.digest, Some(digest));
        assert_eq!(image.to_string(), text);
        assert!("ba se".parse::<ImageRef>().is_err());
        assert!("base@sha256:12".parse::<ImageRef>().is_err());
    }
}
