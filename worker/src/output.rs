//! What a subject writes: counted, hashed, kept up to the job's limit.

use evalfleet_proto::evaluation::Output;
use evalfleet_proto::ids::Sha256;
use evalfleet_service::blobs::{self, Blobs};

/// One stream.
#[derive(Debug, Default)]
pub struct Stream {
    kept: Vec<u8>,
    written: u64,
}

impl Stream {
    /// Takes in what was written, keeping no more than `bytes_max` in all.
    pub fn take(&mut self, data: &[u8], bytes_max: u64) {
        self.written += data.len() as u64;
        let room = bytes_max.saturating_sub(self.kept.len() as u64) as usize;
        self.kept.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// What was kept.
    pub fn bytes(&self) -> &[u8] {
        &self.kept
    }

    /// Makes the report: the first `preview` bytes in it, everything kept in the blob store if that is more.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn report(self, preview: u64, blobs: &Blobs) -> Result<Output, blobs::Error> {
        let shown = self.kept.len().min(preview as usize);
        let text = String::from_utf8_lossy(&self.kept[..shown]).into_owned();
        let truncated = self.written > shown as u64;
        let sha256 = Sha256::of(&self.kept);
        if self.kept.len() > shown {
            blobs.put(self.kept).await?;
        }
        Ok(Output { text, bytes: self.written, sha256: Some(sha256), truncated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_too_long_for_the_report_is_found_under_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::in_dir(dir.path()).unwrap();
        let mut stream = Stream::default();
        stream.take(b"hello ", 8);
        stream.take(b"world", 8);
        let output = stream.report(5, &blobs).await.unwrap();
        assert_eq!((output.text.as_str(), output.bytes, output.truncated), ("hello", 11, true));
        assert_eq!(blobs.get(output.sha256.unwrap()).await.unwrap(), b"hello wo");
    }
}
