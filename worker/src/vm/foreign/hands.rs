//! What the inside of a foreign image is reached with: ssh, or the QEMU guest agent. The same few
//! things can be done by either.

use super::super::Error;
use super::super::qapi::qga::Qga;
use super::script::{self, NOTES};
use super::ssh::{self, Ssh};
use evalfleet_images::foreign::Channel;
use evalfleet_proto::guest::{CHUNK_BYTES, Put};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{sleep, timeout};

/// The longest that a short script may take.
const SHORT: Duration = Duration::from_secs(20);
/// How often the guest agent is asked for what a run wrote.
const GLANCE: Duration = Duration::from_millis(50);

/// What a short script came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
}

/// What happens while a run is followed.
#[derive(Debug)]
pub(super) enum Happened {
    Output {
        stderr: bool,
        data: Vec<u8>,
    },
    /// It ended, and both its streams were read to their end.
    Ended,
}

/// One of the two.
#[derive(Debug)]
pub(super) enum Hands {
    Ssh(Ssh),
    Qga(Qga),
}

/// A run under way.
pub(super) enum Following {
    /// And what it has told and nobody looked at.
    Ssh(Box<ssh::Following>, Option<Happened>),
    Qga(Box<Files>),
}

impl Hands {
    /// Which of the two.
    pub(super) fn channel(&self) -> Channel {
        match self {
            Self::Ssh(_) => Channel::Ssh,
            Self::Qga(_) => Channel::Qga,
        }
    }

    /// Runs a short script to its end.
    pub(super) async fn exec(
        &self,
        script: &str,
        arguments: &[String],
        stdin: &[u8],
        limit: Duration,
    ) -> Result<Done, Error> {
        let run = async {
            match self {
                Self::Ssh(ssh) => ssh.exec(script, arguments, stdin).await,
                Self::Qga(qga) => {
                    let status = qga.run(shell(script, arguments), stdin.to_vec()).await?;
                    let code = status.code.and_then(|code| i32::try_from(code).ok());
                    Ok(Done { code, stdout: status.stdout })
                }
            }
        };
        let late = Error::TimedOut { what: "a command in the guest", seconds: limit.as_secs() };
        timeout(limit, run).await.unwrap_or(Err(late))
    }

    /// The same, where it has to succeed; gives what it said.
    pub(super) async fn must(&self, script: &str, arguments: &[String]) -> Result<String, Error> {
        let done = self.exec(script, arguments, &[], SHORT).await?;
        match done.code {
            Some(0) => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            code => Err(Error::Agent(format!("({}) ended a command with {code:?}", self.channel().as_str()))),
        }
    }

    /// Sets the clock ahead of what [`script::GREET`] does, where the channel has a word for it.
    pub(super) async fn set_time(&self) {
        if let Self::Qga(qga) = self {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            if let Err(error) = qga.set_time(now.as_nanos() as i64).await {
                tracing::debug!(%error, "the clock is read afterwards, which decides");
            }
        }
    }

    /// Lays a chunk of a file; `Ok(Err(why))` when the guest cannot.
    pub(super) async fn put(&self, put: &Put) -> Result<Result<(), String>, Error> {
        let how = if put.offset == 0 { "new" } else { "more" };
        let arguments = [put.path.clone(), format!("{:o}", put.mode), how.to_owned()];
        let done = self.exec(script::PUT, &arguments, &put.data, SHORT).await?;
        Ok(if done.code == Some(0) { Ok(()) } else { Err(format!("{}: cannot be written", put.path)) })
    }

    /// Starts a prepared run.
    pub(super) async fn start(&self, arguments: Vec<String>) -> Result<Following, Error> {
        Ok(match self {
            Self::Ssh(ssh) => Following::Ssh(Box::new(ssh.start(script::RUN, &arguments).await?), None),
            Self::Qga(qga) => Following::Qga(Box::new(Files::open(qga, arguments).await?)),
        })
    }
}

impl Following {
    /// Takes more of standard input.
    pub(super) async fn feed(&mut self, hands: &Hands, data: &[u8]) -> Result<(), Error> {
        match (self, hands) {
            (Self::Ssh(run, _), _) => run.feed(data),
            (Self::Qga(run), Hands::Qga(qga)) => qga.write(run.stdin, data).await?,
            (Self::Qga(_), Hands::Ssh(_)) => {}
        }
        Ok(())
    }

    /// Takes its end.
    pub(super) async fn end_of_input(&mut self, hands: &Hands) -> Result<(), Error> {
        match (self, hands) {
            (Self::Ssh(run, _), _) => run.end_of_input(),
            (Self::Qga(run), Hands::Qga(qga)) => run.launch(qga).await?,
            (Self::Qga(_), Hands::Ssh(_)) => {}
        }
        Ok(())
    }

    /// Waits until it is worth looking; may be given up and asked again.
    pub(super) async fn woken(&mut self) -> Result<(), Error> {
        match self {
            Self::Ssh(run, next) => {
                if next.is_none() {
                    *next = Some(run.next().await?);
                }
            }
            Self::Qga(run) if run.running.is_some() => sleep(GLANCE).await,
            Self::Qga(_) => std::future::pending().await,
        }
        Ok(())
    }

    /// Looks what happened. Not to be given up: the guest agent would have told it in vain.
    pub(super) async fn look(&mut self, hands: &Hands) -> Result<Option<Happened>, Error> {
        match (self, hands) {
            (Self::Ssh(_, next), _) => Ok(next.take()),
            (Self::Qga(run), Hands::Qga(qga)) => run.look(qga).await,
            (Self::Qga(_), Hands::Ssh(_)) => Ok(None),
        }
    }
}

/// A run by the guest agent, which gives output only at the end and in bounds: so the streams are files
/// in the guest's memory, charged to the run, and read as they grow. The program starts when its input
/// is complete.
#[derive(Debug)]
pub(super) struct Files {
    arguments: Vec<String>,
    stdin: i64,
    /// The program, and the files it writes to, once it was started.
    running: Option<(i64, [i64; 2])>,
    exited: bool,
    /// Files that were read to their end after the program's.
    ended: [bool; 2],
}

impl Files {
    async fn open(qga: &Qga, arguments: Vec<String>) -> Result<Self, Error> {
        let stdin = qga.open(&format!("{NOTES}/in"), "w").await?;
        Ok(Self { arguments, stdin, running: None, exited: false, ended: [false; 2] })
    }

    async fn launch(&mut self, qga: &Qga) -> Result<(), Error> {
        qga.close(self.stdin).await?;
        // They are there before they are opened for reading, whatever the program does.
        let names = ["out", "err"].map(|name| format!("{NOTES}/{name}"));
        let mut files = [0; 2];
        for (file, name) in files.iter_mut().zip(&names) {
            let made = qga.open(name, "w").await?;
            qga.close(made).await?;
            *file = qga.open(name, "r").await?;
        }
        let redirected = format!("exec <{NOTES}/in >{NOTES}/out 2>{NOTES}/err\n{}", script::RUN);
        let pid = qga.exec(shell(&redirected, &self.arguments), Vec::new()).await?;
        self.running = Some((pid, files));
        Ok(())
    }

    async fn look(&mut self, qga: &Qga) -> Result<Option<Happened>, Error> {
        let Some((pid, files)) = self.running else { return Ok(None) };
        if !self.exited {
            self.exited = qga.status(pid).await?.exited;
        }
        for (at, file) in files.into_iter().enumerate() {
            if self.ended[at] {
                continue;
            }
            let data = qga.read(file, CHUNK_BYTES).await?;
            if !data.is_empty() {
                return Ok(Some(Happened::Output { stderr: at == 1, data }));
            }
            self.ended[at] = self.exited;
        }
        Ok((self.ended == [true; 2]).then_some(Happened::Ended))
    }
}

fn shell(script: &str, arguments: &[String]) -> Vec<String> {
    let words = ["/bin/sh", "-c", script, "evalfleet"].map(str::to_owned);
    words.into_iter().chain(arguments.iter().cloned()).collect()
}
