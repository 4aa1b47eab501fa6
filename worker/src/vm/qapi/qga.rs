//! The QEMU guest agent, in images that run one.
//!
//! Its protocol has no numbers on its answers, so a conversation begins by resynchronising: a byte that
//! is no JSON ends whatever half sentence the agent was left with, and all it says before it repeats our
//! number behind such a byte is of somebody else's life. What it says is hostile: a line is bounded.

use super::super::Error;
use super::{Asker, Unanswered};
use futures::Sink;
use qapi::futures::QgaStreamTokio;
use qapi::{Execute, qga};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// Between both sides' sentences: no JSON has it.
const DELIMITER: u8 = 0xff;
/// The longest line that is read: a chunk of a file in base64, and room.
const LINE_BYTES_MAX: usize = 1 << 20;
/// The longest that one command may take; programs are waited for by asking again.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a program is looked at.
const GLANCE: Duration = Duration::from_millis(20);

type Commands = QgaStreamTokio<WriteHalf<UnixStream>>;

/// A conversation with one VM's guest agent.
pub(in crate::vm) struct Qga {
    asker: Asker<Commands>,
}

impl std::fmt::Debug for Qga {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qga").finish_non_exhaustive()
    }
}

/// How a program stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::vm) struct Status {
    /// Whether it ended.
    pub(in crate::vm) exited: bool,
    /// With which status.
    pub(in crate::vm) code: Option<i64>,
    /// What it wrote to standard output, where that was to be kept.
    pub(in crate::vm) stdout: Vec<u8>,
}

impl Qga {
    async fn execute<C: qapi::Command>(&self, command: C) -> Result<C::Ok, Error>
    where
        Commands: Sink<Execute<C, u32>, Error = io::Error>,
    {
        self.asker.ask(command, COMMAND_TIMEOUT).await.map_err(|unanswered| match unanswered {
            Unanswered::Refused(message) => Error::Agent(format!("(QEMU's) {}: {message}", C::NAME)),
            Unanswered::Late => Error::TimedOut { what: C::NAME, seconds: COMMAND_TIMEOUT.as_secs() },
        })
    }

    /// Connects to QEMU's end of the agent's port and agrees on where the conversation begins. The
    /// number `id` should be nobody else's.
    pub(in crate::vm) async fn connect(socket: &Path, id: u32, limit: Duration) -> Result<Self, Error> {
        let begin = async {
            let failed = |error: io::Error| Error::Agent(format!("(QEMU's) cannot be reached: {error}"));
            let (from, mut to) = tokio::io::split(UnixStream::connect(socket).await.map_err(failed)?);
            to.write_all(&[DELIMITER]).await.map_err(failed)?;
            let stream = QgaStreamTokio::open_split(Sentences::new(from), to);
            let (service, events) = stream.into_parts();
            // It drives the reading; it ends when either side hangs up.
            tokio::spawn(events.into_future());
            let qga = Self { asker: Asker::new(service) };
            let id = i64::from(id);
            let said = qga.execute(qga::guest_sync_delimited { id }).await?;
            if said == id { Ok(qga) } else { Err(Error::Agent("(QEMU's) answers somebody else".to_owned())) }
        };
        let late = Error::TimedOut { what: "QEMU's guest agent", seconds: limit.as_secs() };
        timeout(limit, begin).await.unwrap_or(Err(late))
    }

    /// Sees whether it answers.
    pub(in crate::vm) async fn ping(&self) -> Result<(), Error> {
        self.execute(qga::guest_ping {}).await.map(drop)
    }

    /// Sets the clock, in nanoseconds since 1970. The agent also sets the machine's own clock, and
    /// complains where the image has no program for that: the caller reads the clock to be sure.
    pub(in crate::vm) async fn set_time(&self, nanoseconds: i64) -> Result<(), Error> {
        self.execute(qga::guest_set_time { time: Some(nanoseconds) }).await.map(drop)
    }

    /// Starts a program and gives its number.
    pub(in crate::vm) async fn exec(&self, argv: Vec<String>, stdin: Vec<u8>) -> Result<i64, Error> {
        let mut argv = argv.into_iter();
        let command = qga::guest_exec {
            path: argv.next().unwrap_or_default(),
            arg: Some(argv.collect()),
            capture_output: Some(qga::GuestExecCaptureOutput::flag(true)),
            env: None,
            input_data: Some(stdin),
        };
        Ok(self.execute(command).await?.pid)
    }

    /// Asks how a program stands. Its end is told once.
    pub(in crate::vm) async fn status(&self, pid: i64) -> Result<Status, Error> {
        let status = self.execute(qga::guest_exec_status { pid }).await?;
        Ok(Status {
            exited: status.exited,
            code: status.exitcode,
            stdout: status.out_data.unwrap_or_default(),
        })
    }

    /// Runs a short program to its end; the caller bounds it.
    pub(in crate::vm) async fn run(&self, argv: Vec<String>, stdin: Vec<u8>) -> Result<Status, Error> {
        let pid = self.exec(argv, stdin).await?;
        loop {
            let status = self.status(pid).await?;
            if status.exited {
                return Ok(status);
            }
            sleep(GLANCE).await;
        }
    }

    /// Opens a file of the guest; `mode` is C's.
    pub(in crate::vm) async fn open(&self, path: &str, mode: &str) -> Result<i64, Error> {
        let (path, mode) = (path.to_owned(), Some(mode.to_owned()));
        self.execute(qga::guest_file_open { path, mode }).await
    }

    /// Reads on in a file, at most `bytes_max` bytes; none at its end, for now.
    pub(in crate::vm) async fn read(&self, handle: i64, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let count = Some(bytes_max as i64);
        Ok(self.execute(qga::guest_file_read { handle, count }).await?.buf_b64)
    }

    /// Writes all of `data` to a file.
    pub(in crate::vm) async fn write(&self, handle: i64, mut data: &[u8]) -> Result<(), Error> {
        while !data.is_empty() {
            let command = qga::guest_file_write { handle, buf_b64: data.to_vec(), count: None };
            let written = self.execute(command).await?.count;
            let written = usize::try_from(written).ok().filter(|count| (1..=data.len()).contains(count));
            let written = written.ok_or_else(|| Error::Agent("(QEMU's) writes nothing".to_owned()))?;
            data = &data[written..];
        }
        Ok(())
    }

    /// Closes a file.
    pub(in crate::vm) async fn close(&self, handle: i64) -> Result<(), Error> {
        self.execute(qga::guest_file_close { handle }).await.map(drop)
    }
}

/// The agent's sentences: from the first delimiter on, without the delimiters, each of bounded length.
struct Sentences<R> {
    from: R,
    begun: bool,
    line_bytes: usize,
}

impl Sentences<ReadHalf<UnixStream>> {
    fn new(from: ReadHalf<UnixStream>) -> Self {
        Self { from, begun: false, line_bytes: 0 }
    }
}

impl<R> Sentences<R> {
    /// What of `read` belongs to the conversation.
    fn sift(&mut self, read: &[u8]) -> io::Result<Vec<u8>> {
        let mut kept = Vec::with_capacity(read.len());
        for byte in read {
            match *byte {
                DELIMITER => self.begun = true,
                _ if !self.begun => {}
                byte => {
                    self.line_bytes = if byte == b'\n' { 0 } else { self.line_bytes + 1 };
                    if self.line_bytes > LINE_BYTES_MAX {
                        return Err(io::Error::other("a line without end"));
                    }
                    kept.push(byte);
                }
            }
        }
        Ok(kept)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Sentences<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut space = vec![0; into.remaining().min(64 << 10)];
        loop {
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.from).poll_read(context, &mut read))?;
            let ended = read.filled().is_empty();
            let kept = self.sift(read.filled())?;
            // Nothing kept would read as the end of the stream.
            if ended || !kept.is_empty() {
                into.put_slice(&kept);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncBufReadExt as _;
    use tokio::io::BufReader;

    /// An agent that was left in the middle of a sentence, and then does as it is told.
    async fn agent(socket: std::path::PathBuf) {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (from, mut to) = tokio::io::split(stream);
        to.write_all(b"{\"return\": 7}\n{\"ret").await.unwrap();
        let mut lines = BufReader::new(from).split(b'\n');
        while let Some(line) = lines.next_segment().await.unwrap() {
            let from = line.iter().position(|byte| *byte == b'{').unwrap();
            let asked: serde_json::Value = serde_json::from_slice(&line[from..]).unwrap();
            let answer = match asked["execute"].as_str().unwrap() {
                "guest-sync-delimited" => {
                    to.write_all(&[DELIMITER]).await.unwrap();
                    asked["arguments"]["id"].clone()
                }
                "guest-exec" => serde_json::json!({"pid": 5}),
                "guest-exec-status" => {
                    serde_json::json!({"exited": true, "exitcode": 3, "out-data": "aGk="})
                }
                _ => serde_json::json!({}),
            };
            to.write_all(format!("{}\n", serde_json::json!({ "return": answer })).as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn stale_sentences_are_passed_over_and_a_program_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qga");
        tokio::spawn(agent(socket.clone()));
        while !socket.exists() {
            tokio::task::yield_now().await;
        }
        let qga = Qga::connect(&socket, 42, Duration::from_secs(5)).await.unwrap();
        qga.ping().await.unwrap();
        let ran = qga.run(vec!["sh".to_owned()], Vec::new()).await.unwrap();
        assert_eq!(ran, Status { exited: true, code: Some(3), stdout: b"hi".to_vec() });
    }

    #[test]
    fn a_line_without_end_is_cut_off() {
        let mut sentences = Sentences { from: (), begun: false, line_bytes: 0 };
        assert_eq!(sentences.sift(b"stale\xff{}\n").unwrap(), b"{}\n");
        assert!(sentences.sift(&vec![b'x'; LINE_BYTES_MAX + 1]).is_err());
    }
}
