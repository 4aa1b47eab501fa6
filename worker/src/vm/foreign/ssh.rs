//! An sshd in the guest: the one module that names openssh.
//!
//! One connection is made and kept (OpenSSH's ControlMaster); every command is a channel of it, which
//! saves the exchange of keys each time. Nothing of the user's own configuration is read, no agent is
//! asked, and the host key is not checked: the other end is a port of this machine behind which we have
//! just put a VM, and what it proves of itself is the key that it lets in.

use super::super::Error;
use super::hands::{Done, Happened};
use openssh::{Child, KnownHosts, Session, SessionBuilder, Stdio};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an sshd may take to say what it is: under emulation it starts slowly.
const BANNER: Duration = Duration::from_secs(5);
/// How long the exchange of keys may take.
const CONNECT: Duration = Duration::from_secs(30);
const CHUNK: usize = 32 << 10;
/// What a VM is called in its own configuration of ssh, and the file that holds it.
pub(super) const HOST: &str = "vm";
pub(super) const CONFIGURATION: &str = "ssh_config";
/// What a short command may say.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Where an sshd is, and who may enter.
#[derive(Debug, Clone)]
pub(super) struct Door {
    /// The host's end of the way in.
    pub(super) address: std::net::SocketAddr,
    /// The private key.
    pub(super) key: PathBuf,
    /// Who enters.
    pub(super) user: String,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Ssh {
    session: Arc<Session>,
    /// Whoever is not root asks sudo.
    sudo: bool,
}

impl Door {
    /// What ssh reads instead of the user's own configuration.
    fn configuration(&self) -> String {
        format!(
            "Host {HOST}\nHostName {}\nPort {}\nUser {}\nIdentityFile \"{}\"\nIdentitiesOnly yes\nIdentityAgent none\nPreferredAuthentications publickey\nBatchMode yes\n\
             LogLevel ERROR\nUserKnownHostsFile /dev/null\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking no\n\
             ForwardAgent no\nForwardX11 no\n",
            self.address.ip(),
            self.address.port(),
            self.user,
            self.key.display()
        )
    }

    /// Writes that configuration into `dir`, under the name [`CONFIGURATION`].
    pub(super) fn write_configuration(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(CONFIGURATION);
        std::fs::write(&path, self.configuration())
            .map_err(Error::host(format!("writing {}", path.display())))
    }
}

impl Ssh {
    /// Tries to enter once, with the configuration in `dir`.
    pub(super) async fn connect(door: &Door, dir: &Path) -> Result<Self, Error> {
        banner(door.address).await?;
        let mut builder = SessionBuilder::default();
        builder
            .connect_timeout(CONNECT)
            .known_hosts_check(KnownHosts::Accept)
            // A socket's path may have no more than 107 bytes, and a VM's folder may lie deep.
            .control_directory(std::env::temp_dir())
            .config_file(dir.join(CONFIGURATION));
        let session = timeout(CONNECT, builder.connect(HOST)).await;
        let session = session
            .map_err(|_| Error::TimedOut { what: "entering over ssh", seconds: CONNECT.as_secs() })?
            .map_err(failed)?;
        Ok(Self { session: Arc::new(session), sudo: door.user != "root" })
    }

    fn command(&self, script: &str, arguments: &[String]) -> openssh::OwningCommand<Arc<Session>> {
        let program = if self.sudo { "sudo" } else { "sh" };
        let mut command = self.session.clone().arc_command(program);
        if self.sudo {
            command.args(["-n", "--", "sh"]);
        }
        command.args(["-c", script, "evalfleet"]).args(arguments);
        command
    }

    /// Runs a short script to its end; the caller bounds it.
    pub(super) async fn exec(&self, script: &str, arguments: &[String], stdin: &[u8]) -> Result<Done, Error> {
        let mut command = self.command(script, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().await.map_err(failed)?;
        let (mut to, from) = (child.stdin().take(), child.stdout().take());
        let feed = async {
            if let Some(to) = &mut to {
                // A script that does not read ends the pipe.
                let _ = to.write_all(stdin).await;
            }
            drop(to);
        };
        let mut stdout = Vec::new();
        let listen = async {
            if let Some(from) = from {
                let _ = from.take(ANSWER_BYTES_MAX).read_to_end(&mut stdout).await;
            }
        };
        tokio::join!(feed, listen);
        let status = child.wait().await.map_err(failed)?;
        Ok(Done { code: status.code(), stdout })
    }

    /// Starts a script whose streams are followed.
    pub(super) async fn start(&self, script: &str, arguments: &[String]) -> Result<Following, Error> {
        let mut command = self.command(script, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().await.map_err(failed)?;
        Ok(Following {
            stdin: child.stdin().take(),
            stdout: child.stdout().take(),
            stderr: child.stderr().take(),
            child: Some(child),
            backlog: VecDeque::new(),
            fed: false,
        })
    }
}

/// A script under way.
#[derive(Debug)]
pub(super) struct Following {
    child: Option<Child<Arc<Session>>>,
    stdin: Option<openssh::ChildStdin>,
    stdout: Option<openssh::ChildStdout>,
    stderr: Option<openssh::ChildStderr>,
    /// Of standard input, what the program has not read yet.
    backlog: VecDeque<u8>,
    fed: bool,
}

impl Following {
    pub(super) fn feed(&mut self, data: &[u8]) {
        self.backlog.extend(data);
    }

    pub(super) fn end_of_input(&mut self) {
        self.fed = true;
    }

    /// Waits for the next thing that happens; may be given up and asked again.
    pub(super) async fn next(&mut self) -> Result<Happened, Error> {
        loop {
            if self.fed && self.backlog.is_empty() {
                self.stdin = None;
            }
            if self.stdout.is_none() && self.stderr.is_none() {
                let Some(child) = self.child.take() else { return Ok(Happened::Ended) };
                // It ends with 0 however its program ended; all else is the connection's end.
                let status = child.wait().await.map_err(failed)?;
                return if status.success() {
                    Ok(Happened::Ended)
                } else {
                    Err(Error::Agent(format!("(ssh) {status}")))
                };
            }
            let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
            let waiting = self.backlog.as_slices().0;
            tokio::select! {
                read = read(&mut self.stdout, &mut out) => match read {
                    0 => self.stdout = None,
                    count => return Ok(Happened::Output { stderr: false, data: out[..count].to_vec() }),
                },
                read = read(&mut self.stderr, &mut err) => match read {
                    0 => self.stderr = None,
                    count => return Ok(Happened::Output { stderr: true, data: err[..count].to_vec() }),
                },
                written = write(&mut self.stdin, waiting), if self.stdin.is_some() && !waiting.is_empty() => match written {
                    // It closed its input: what is left nobody will read.
                    0 => { self.stdin = None; self.backlog.clear(); }
                    count => drop(self.backlog.drain(..count)),
                },
            }
        }
    }
}

/// Reads some; 0 at the end, however it came.
async fn read<R: tokio::io::AsyncRead + Unpin>(from: &mut Option<R>, into: &mut [u8]) -> usize {
    match from {
        Some(from) => from.read(into).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn write(to: &mut Option<openssh::ChildStdin>, data: &[u8]) -> usize {
    match to {
        Some(to) => to.write(data).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// Waits for an sshd to name itself: QEMU takes connections long before there is one.
async fn banner(address: std::net::SocketAddr) -> Result<(), Error> {
    let named = async {
        let mut stream = TcpStream::connect(address).await?;
        let mut begin = [0; 4];
        stream.read_exact(&mut begin).await?;
        if &begin == b"SSH-" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
    };
    let late = Error::TimedOut { what: "an sshd's greeting", seconds: BANNER.as_secs() };
    let named: std::io::Result<()> = timeout(BANNER, named).await.map_err(|_| late)?;
    named.map_err(|error| Error::Agent(format!("(ssh) is not there: {error}")))
}

fn failed(error: openssh::Error) -> Error {
    let mut text = format!("(ssh) {error}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Error::Agent(text)
}
