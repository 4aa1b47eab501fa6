//! The agent's loop: one thread, one `poll`, one run at a time.

use crate::cgroup::{self, Cgroup};
use crate::port::{Heard, Port};
use crate::run::{self, Running};
use crate::{files, tree, wake};
use evalfleet_proto::guest::{CHUNK_BYTES, FromGuest, ToGuest};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// How often orphans are reaped when nothing else happens.
const HEARTBEAT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How long to look away while no host is there.
const NOBODY: Duration = Duration::from_micros(500);
/// How long the streams may stay open after the first process ended, while someone it left holds them.
const LINGER: Duration = Duration::from_millis(20);

/// The agent's state.
struct Agent {
    port: Port,
    running: Option<Running>,
    /// When the first process of the run was seen to have ended.
    ended: Option<Instant>,
    runs: u64,
    /// The next run's cgroup, made while nobody waits.
    cgroup: Option<Cgroup>,
}

/// Serves one host after the other, for good.
pub(crate) fn forever() -> io::Result<Infallible> {
    let mut agent = Agent { port: Port::open()?, running: None, ended: None, runs: 0, cgroup: None };
    loop {
        agent.turn()?;
    }
}

impl Agent {
    /// Waits for something to happen and does what follows from it.
    fn turn(&mut self) -> io::Result<()> {
        let (heard, stdin) = self.wait()?;
        if heard {
            match self.port.hear()? {
                Heard::Something => self.obey_all()?,
                Heard::Nothing => {}
                Heard::Nobody => std::thread::sleep(NOBODY),
            }
        }
        if stdin {
            self.feed_stdin();
        }
        cgroup::reap(|pid, status| {
            if let Some(running) = &mut self.running {
                running.note(pid, status);
            }
        });
        self.forward_output()?;
        self.finish_if_over()
    }

    /// Polls everything there is; tells whether the port and the run's standard input want attention.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let mut fds = vec![PollFd::new(&self.port, PollFlags::IN)];
        let mut stdin_at = None;
        if let Some(running) = &self.running {
            for stream in [&running.stdout, &running.stderr].into_iter().flatten() {
                fds.push(PollFd::new(stream, PollFlags::IN));
            }
            if running.status.is_none() {
                fds.push(PollFd::new(&running.pidfd, PollFlags::IN));
            }
            if let Some(stdin) = running.stdin.as_ref().filter(|_| running.stdin_wants()) {
                stdin_at = Some(fds.len());
                fds.push(PollFd::new(stdin, PollFlags::OUT));
            }
        }
        let lingers = self.ended.is_some();
        let timeout = if lingers { Timespec { tv_sec: 0, tv_nsec: 2_000_000 } } else { HEARTBEAT };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |at: usize| !fds[at].revents().is_empty();
        Ok((ready(0), stdin_at.is_some_and(ready)))
    }

    fn obey_all(&mut self) -> io::Result<()> {
        loop {
            match self.port.next_frame() {
                Ok(Some(order)) => self.obey(order)?,
                Ok(None) => return Ok(()),
                Err(error) => return self.port.say(&FromGuest::Error { error: error.to_string() }),
            }
        }
    }

    fn obey(&mut self, order: ToGuest) -> io::Result<()> {
        match order {
            ToGuest::Hello(hello) => {
                // What cannot be made now is tried again, and complained of, when it is needed.
                self.cgroup = self.cgroup().ok();
                self.port.say(&FromGuest::Hello(wake::wake(hello)))
            }
            ToGuest::Put(chunk) => {
                let error = files::put(&chunk).err().map(|error| format!("{}: {error}", chunk.path));
                self.port.say(&FromGuest::Laid { error })
            }
            ToGuest::Run(run) => self.start(&run),
            ToGuest::Stdin(data) => {
                if let Some(running) = &mut self.running {
                    running.to_stdin.extend(data);
                }
                Ok(())
            }
            ToGuest::StdinEnd => {
                if let Some(running) = &mut self.running {
                    running.stdin_ends = true;
                }
                Ok(())
            }
            ToGuest::Kill => {
                if let Some(running) = &self.running {
                    running.cgroup.kill();
                    tree::end_all();
                }
                Ok(())
            }
            ToGuest::Sync => {
                flush();
                self.port.say(&FromGuest::Synced)
            }
        }
    }

    fn start(&mut self, run: &evalfleet_proto::guest::Run) -> io::Result<()> {
        if self.running.is_some() {
            return self.port.say(&FromGuest::Error { error: "a run is under way".to_owned() });
        }
        let started = self
            .cgroup()
            .map_err(|error| run::NotStarted::of("cgroup", &error))
            .and_then(|cgroup| run::start(cgroup, run));
        match started {
            Ok(running) => {
                self.running = Some(running);
                self.port.say(&FromGuest::Started)
            }
            Err(failure) => {
                self.port.say(&FromGuest::NotStarted { error: failure.error, errno: failure.errno })
            }
        }
    }

    /// Gives the cgroup that was made ahead, or makes one.
    fn cgroup(&mut self) -> io::Result<Cgroup> {
        if let Some(made) = self.cgroup.take() {
            return Ok(made);
        }
        self.runs += 1;
        Cgroup::make(self.runs)
    }

    fn feed_stdin(&mut self) {
        let Some(running) = &mut self.running else { return };
        let Some(stdin) = &running.stdin else { return };
        let (front, _) = running.to_stdin.as_slices();
        if front.is_empty() {
            running.stdin = None;
            return;
        }
        // A pipe that polls writable has room for this much without blocking.
        match rustix::io::write(stdin, &front[..front.len().min(PIPE_ROOM)]) {
            Ok(count) => drop(running.to_stdin.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // It closed its standard input: so do we, and forget the rest.
            Err(_) => running.stdin = None,
        }
    }

    fn forward_output(&mut self) -> io::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        for (stream, stderr) in [(&mut running.stdout, false), (&mut running.stderr, true)] {
            if let Some(data) = drain(stream)? {
                self.port.say(&FromGuest::Output { stderr, data })?;
            }
        }
        Ok(())
    }

    /// Reports the run once its first process is gone and its streams are at their end, or have been
    /// held open long enough by what it left behind.
    fn finish_if_over(&mut self) -> io::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        if running.status.is_none() {
            return Ok(());
        }
        let since = *self.ended.get_or_insert_with(Instant::now);
        let open = running.stdout.is_some() || running.stderr.is_some();
        if open && since.elapsed() < LINGER {
            return Ok(());
        }
        let (left, names) = running.sweep();
        for (stream, stderr) in [(&mut running.stdout, false), (&mut running.stderr, true)] {
            while let Some(data) = drain(stream)? {
                self.port.say(&FromGuest::Output { stderr, data })?;
            }
        }
        let exited = running.exited(left, names);
        self.port.say(&FromGuest::Exited(exited))?;
        // Putting its cgroup away takes a while, and the host need not wait for it.
        self.running = None;
        self.ended = None;
        Ok(())
    }
}

/// POSIX promises this much room in a pipe that polls writable.
const PIPE_ROOM: usize = 4096;

/// Writes everything that lies in the root out to the scratch disk. The overlay passes that on to the disk
/// below it; other file systems are nothing the host can see, and asking them all takes longer.
fn flush() {
    let root =
        rustix::fs::openat(CWD, "/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    if root.and_then(rustix::fs::syncfs).is_err() {
        rustix::fs::sync();
    }
}

/// Reads what a stream has; closes it at its end.
fn drain(stream: &mut Option<OwnedFd>) -> io::Result<Option<Vec<u8>>> {
    let Some(open) = stream else { return Ok(None) };
    let mut fds = [PollFd::from_borrowed_fd(open.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if fds[0].revents().is_empty() {
        return Ok(None);
    }
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    match rustix::io::read(&*open, spare_capacity(&mut chunk)) {
        Ok(0) => {
            *stream = None;
            Ok(None)
        }
        Ok(_) => Ok(Some(chunk)),
        Err(Errno::INTR | Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
