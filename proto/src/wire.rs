//! The one way in and out of bytes: named MessagePack, versioned, with nothing left over.
//!
//! Fields travel by name, because the compact encoding decodes an inserted field silently into the
//! wrong one. A reader skips fields it does not know and defaults those it misses, so that versions
//! can be mixed; it refuses bytes that follow the document.

use crate::SCHEMA_VERSION;
use crate::ids::Sha256;
use crate::job::Job;
use serde::{Serialize, de::DeserializeOwned};

/// The largest body: the broker's own limit is 16 MiB on its newest versions.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// Why bytes are not a message. Such a message is poison: no retry makes it better.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is larger than any message of ours.
    #[error("the message has {0} bytes, and none may have more than {BODY_BYTES_MAX}")]
    TooLarge(usize),
    /// It is not MessagePack, or not of this shape.
    #[error("the message does not decode: {0}")]
    Malformed(String),
    /// Something follows it.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// A newer version wrote it.
    #[error("the message has version {0}, and this build reads up to {SCHEMA_VERSION}: update this part")]
    Newer(u16),
}

/// Encodes `value` as MessagePack with named fields.
///
/// # Panics
/// Never for the types of this crate: none has a form that MessagePack lacks.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("every message type has a MessagePack form")
}

/// Appends the same to `bytes`, for those who put something in front of it and want no copy.
///
/// # Panics
/// As [`encode`]: never.
pub fn encode_into<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    rmp_serde::encode::write_named(bytes, value).expect("every message type has a MessagePack form");
}

/// Decodes one document and refuses what follows it.
///
/// # Errors
/// Whatever the bytes are, an error says what is wrong with them; nothing panics.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > BODY_BYTES_MAX {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let mut cursor = std::io::Cursor::new(bytes);
    let mut from = rmp_serde::Deserializer::new(&mut cursor);
    from.set_max_depth(128);
    let value = T::deserialize(&mut from).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    let left = bytes.len() - cursor.position() as usize;
    if left > 0 { Err(DecodeError::Trailing(left)) } else { Ok(value) }
}

/// Decodes a job, and refuses a version that this build cannot know.
///
/// # Errors
/// As [`decode`], and for newer versions.
pub fn decode_job(bytes: &[u8]) -> Result<Job, DecodeError> {
    decode_versioned(bytes)
}

/// The same for any document that says its version.
pub(crate) fn decode_versioned<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema: u16,
    }
    let Version { schema } = decode(bytes)?;
    if schema > SCHEMA_VERSION {
        return Err(DecodeError::Newer(schema));
    }
    decode(bytes)
}

/// Computes the hash of what `job` asks: its task, image, limits and files, and not who asked when.
pub fn content_key(job: &Job) -> Sha256 {
    let asked = (&job.task, &job.image, &job.scenario, &job.limits, &job.network, &job.files, &job.out);
    Sha256::of(&encode(&asked))
}
