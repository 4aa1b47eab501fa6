//! The history as a table, for programs that read columns: Apache Parquet, a row for each evaluation.
//!
//! A document becomes a [`Row`]: what is asked for often has a column of its own, in the document's own units, and
//! the whole document is in the last. A file has groups of at most [`ROWS`] rows, which are what is in memory.

use jiff::Timestamp;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::record::RecordWriter as _;
use parquet_derive::ParquetRecordWriter;
use serde_json::Value;
use std::io::Write;
use std::sync::Arc;

/// Rows of a group.
pub const ROWS: usize = 5_000;

/// One evaluation. A column that the document does not have, or has otherwise, is null.
#[derive(Debug, Clone, Default, PartialEq, ParquetRecordWriter)]
pub struct Row {
    /// The job's id.
    pub id: String,
    /// `command`, `function_call`, …
    pub kind: Option<String>,
    /// The batch it was submitted with.
    pub batch: Option<String>,
    /// The first function that was called.
    pub tool: Option<String>,
    /// How it ended.
    pub status: Option<String>,
    /// Whose doing that was.
    pub cause: Option<String>,
    /// 1 or 0.
    pub success_rate: Option<f64>,
    /// The exit status of the subject.
    pub exit_code: Option<i64>,
    /// When it was submitted, in microseconds since 1970.
    pub submitted_us: Option<i64>,
    /// When it was begun.
    pub started_us: Option<i64>,
    /// When it ended.
    pub finished_us: Option<i64>,
    /// The label `model`.
    pub model: Option<String>,
    /// The label `run`.
    pub run: Option<String>,
    /// The worker that ran it.
    pub worker: Option<String>,
    /// The digest of its image.
    pub image: Option<String>,
    /// `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// Which attempt it was.
    pub attempt: Option<i64>,
    /// Wall time of the subject, in milliseconds.
    pub wall_ms: Option<f64>,
    /// CPU time in user mode, in milliseconds.
    pub cpu_user_ms: Option<f64>,
    /// CPU time in kernel mode, in milliseconds.
    pub cpu_system_ms: Option<f64>,
    /// Highest memory in use.
    pub memory_peak_bytes: Option<i64>,
    /// Read from the disk.
    pub disk_read_bytes: Option<i64>,
    /// Written to the disk.
    pub disk_written_bytes: Option<i64>,
    /// Received from the network.
    pub net_rx_bytes: Option<i64>,
    /// Sent to the network.
    pub net_tx_bytes: Option<i64>,
    /// From submission until a worker took it, in milliseconds.
    pub queued_ms: Option<f64>,
    /// What it left different on its disk.
    pub effects: Option<i64>,
    /// The whole document, JSON.
    pub document: String,
}

impl Row {
    /// Reads a document. `None` for what is no evaluation's.
    pub fn of(document: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(document).ok()?;
        let text = |path: &str| value.pointer(path)?.as_str().map(str::to_owned);
        let float = |path: &str| value.pointer(path)?.as_f64();
        let whole = |path: &str| value.pointer(path)?.as_i64();
        let time = |path: &str| value.pointer(path)?.as_str()?.parse().ok().map(Timestamp::as_microsecond);
        Some(Self {
            id: text("/id")?,
            kind: text("/kind"),
            batch: text("/batch"),
            tool: text("/calls/0/name"),
            status: text("/status"),
            cause: text("/cause"),
            success_rate: float("/success_rate"),
            exit_code: whole("/exit_code"),
            submitted_us: time("/submitted"),
            started_us: time("/started"),
            finished_us: time("/finished"),
            model: text("/labels/model"),
            run: text("/labels/run"),
            worker: text("/provenance/worker"),
            image: text("/provenance/image"),
            accelerator: text("/provenance/accelerator"),
            attempt: whole("/provenance/attempt"),
            wall_ms: float("/metrics/wall_ms"),
            cpu_user_ms: float("/metrics/cpu_user_ms"),
            cpu_system_ms: float("/metrics/cpu_system_ms"),
            memory_peak_bytes: whole("/metrics/memory_peak_bytes"),
            disk_read_bytes: whole("/metrics/disk_read_bytes"),
            disk_written_bytes: whole("/metrics/disk_written_bytes"),
            net_rx_bytes: whole("/metrics/net_rx_bytes"),
            net_tx_bytes: whole("/metrics/net_tx_bytes"),
            queued_ms: float("/timings/queued_ms"),
            effects: value
                .pointer("/effects")
                .and_then(Value::as_array)
                .and_then(|all| all.len().try_into().ok()),
            document: String::from_utf8_lossy(document).into_owned(),
        })
    }
}

/// A file under way.
#[expect(missing_debug_implementations, reason = "the writer has none")]
pub struct Table<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    rows: Vec<Row>,
}

impl<W: Write + Send> Table<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub fn new(out: W) -> Result<Self> {
        let rows = Vec::with_capacity(ROWS);
        let schema = rows.as_slice().schema()?;
        let properties =
            WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
        Ok(Self { writer: SerializedFileWriter::new(out, schema, Arc::new(properties))?, rows })
    }

    /// Puts a row in.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn push(&mut self, row: Row) -> Result<()> {
        self.rows.push(row);
        if self.rows.len() < ROWS { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        self.rows.as_slice().write_to_row_group(&mut group)?;
        group.close()?;
        self.rows.clear();
        Ok(())
    }

    /// Ends the file; without this it is none.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub fn end(mut self) -> Result<()> {
        self.flush()?;
        self.writer.close()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::RowAccessor as _;

    const DOCUMENT: &str = r#"{"id": "0198c1c2-0000-7000-8000-000000000000", "kind": "function_call", "batch": null,
        "status": "failed", "cause": "subject", "success_rate": 0.0, "calls": [{"name": "word_count"}], "exit_code": 3,
        "effects": [{}, {}], "metrics": {"wall_ms": 12.5, "memory_peak_bytes": 4096}, "labels": {"model": "m-1"},
        "provenance": {"worker": "w1", "attempt": 2}, "finished": "2026-01-31T00:00:00.5Z"}"#;

    #[test]
    fn what_is_written_is_read_again() {
        let row = Row::of(DOCUMENT.as_bytes()).unwrap();
        assert_eq!((row.tool.as_deref(), row.exit_code, row.effects), (Some("word_count"), Some(3), Some(2)));
        assert_eq!((row.finished_us, row.started_us), (Some(1_769_817_600_500_000), None));
        let mut file = Vec::new();
        let mut table = Table::new(&mut file).unwrap();
        let count = ROWS + 7;
        for nth in 0..count {
            table.push(Row { attempt: Some(nth as i64), ..row.clone() }).unwrap();
        }
        table.end().unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
        assert_eq!(reader.num_row_groups(), 2);
        let names: Vec<&str> = reader
            .metadata()
            .file_metadata()
            .schema_descr()
            .columns()
            .iter()
            .map(|column| column.name())
            .collect();
        let column = |name| names.iter().position(|known| *known == name).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), count);
        for (nth, read) in rows.iter().enumerate() {
            assert_eq!(read.get_long(column("attempt")).unwrap(), nth as i64);
        }
        let read = &rows[count - 1];
        assert_eq!(read.get_string(column("status")).unwrap(), "failed");
        assert_eq!(read.get_double(column("wall_ms")).unwrap(), 12.5);
        assert_eq!(read.get_string(column("document")).unwrap(), DOCUMENT);
        assert!(read.get_string(column("batch")).is_err(), "it is null");
    }

    #[test]
    fn what_is_no_evaluation_is_no_row() {
        assert_eq!(Row::of(b"nonsense"), None);
        assert_eq!(Row::of(b"{\"kind\": \"command\"}"), None);
        let strange = Row::of(br#"{"id": "x", "calls": 3, "metrics": {"wall_ms": "long"}}"#).unwrap();
        assert_eq!((strange.tool, strange.wall_ms, strange.effects), (None, None, None));
    }

    #[test]
    fn an_empty_history_is_a_file_as_well() {
        let mut file = Vec::new();
        Table::new(&mut file).unwrap().end().unwrap();
        assert_eq!(
            SerializedFileReader::new(bytes::Bytes::from(file)).unwrap().get_row_iter(None).unwrap().count(),
            0
        );
    }
}
