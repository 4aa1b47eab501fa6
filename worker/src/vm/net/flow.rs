//! One connection: bytes from the guest to the host's socket and back, each way ending on its own.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

/// How long nothing may move.
const IDLE: Duration = Duration::from_secs(300);
/// In how much of a second's allowance a job may run ahead.
const BURSTS_PER_SECOND: u64 = 10;

/// What all connections of a job together may still carry.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
    rate: u64,
    now: u64,
    filled: Instant,
}

impl Budget {
    pub(super) fn new(bytes: u64, rate: u64) -> Self {
        Self { left: bytes, rate, now: rate / BURSTS_PER_SECOND, filled: Instant::now() }
    }

    /// Adds what the time since the last call allows.
    pub(super) fn fill(&mut self, now: Instant) {
        let due = now.saturating_duration_since(self.filled).as_micros() as u64;
        let more = due.saturating_mul(self.rate) / 1_000_000;
        if more > 0 {
            self.now = self.now.saturating_add(more).min((self.rate / BURSTS_PER_SECOND).max(1));
            self.filled = now;
        }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// How long until there is more, when there is nothing now.
    pub(super) fn wait(&self) -> Option<Duration> {
        (self.now == 0 && self.left > 0).then_some(Duration::from_millis(10))
    }

    fn room(&self) -> usize {
        usize::try_from(self.left.min(self.now)).unwrap_or(usize::MAX)
    }

    fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
        self.now = self.now.saturating_sub(bytes as u64);
    }
}

/// What a look at a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Nothing can move now.
    Idle,
    /// Something moved.
    Moved,
    /// Both ways are over.
    Over,
}

/// A connection that stands.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) handle: SocketHandle,
    host: TcpStream,
    guest_ended: bool,
    host_ended: bool,
    moved: Instant,
}

impl Flow {
    pub(super) fn new(handle: SocketHandle, host: TcpStream) -> Self {
        Self { handle, host, guest_ended: false, host_ended: false, moved: Instant::now() }
    }

    /// Moves what can be moved, and has `cx` woken when there is more.
    pub(super) fn pump(
        &mut self,
        cx: &mut Context<'_>,
        guest: &mut tcp::Socket<'static>,
        budget: &mut Budget,
    ) -> Pumped {
        let out = self.pass_to_host(cx, guest, budget);
        let back = self.pass_to_guest(cx, guest, budget);
        let moved = match (out, back) {
            (Ok(out), Ok(back)) => out || back,
            // One end broke: so does the other, and not with an orderly end.
            (Err(_), _) | (_, Err(_)) => {
                guest.abort();
                return Pumped::Over;
            }
        };
        if moved {
            self.moved = Instant::now();
        } else if self.moved.elapsed() > IDLE {
            guest.abort();
        }
        if is_over(guest) {
            if !(self.guest_ended && self.host_ended) {
                self.reset();
            }
            return Pumped::Over;
        }
        if moved { Pumped::Moved } else { Pumped::Idle }
    }

    /// Breaks the host's end, so that its other side does not take it for an orderly end.
    pub(super) fn reset(&self) {
        let _ = self.host.set_zero_linger();
    }

    fn pass_to_host(
        &mut self,
        cx: &mut Context<'_>,
        guest: &mut tcp::Socket<'static>,
        budget: &mut Budget,
    ) -> io::Result<bool> {
        let mut moved = false;
        while guest.can_recv() && budget.room() > 0 && !self.guest_ended {
            let Poll::Ready(ready) = self.host.poll_write_ready(cx) else { return Ok(moved) };
            ready?;
            let room = budget.room();
            let written = guest.recv(|bytes| {
                let written = self.host.try_write(&bytes[..bytes.len().min(room)]);
                (*written.as_ref().unwrap_or(&0), written)
            });
            match written {
                Ok(Ok(count)) => {
                    budget.take(count);
                    moved = true;
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(moved),
            }
        }
        let begun =
            !matches!(guest.state(), tcp::State::Listen | tcp::State::SynReceived | tcp::State::Closed);
        if begun && !guest.may_recv() && !self.guest_ended {
            self.guest_ended = true;
            if let Poll::Ready(ended) = Pin::new(&mut self.host).poll_shutdown(cx) {
                ended?;
            }
            moved = true;
        }
        Ok(moved)
    }

    fn pass_to_guest(
        &mut self,
        cx: &mut Context<'_>,
        guest: &mut tcp::Socket<'static>,
        budget: &mut Budget,
    ) -> io::Result<bool> {
        let mut moved = false;
        while guest.can_send() && budget.room() > 0 && !self.host_ended {
            let Poll::Ready(ready) = self.host.poll_read_ready(cx) else { return Ok(moved) };
            ready?;
            let room = budget.room();
            let read = guest.send(|bytes| {
                let most = bytes.len().min(room);
                let read = self.host.try_read(&mut bytes[..most]);
                (*read.as_ref().unwrap_or(&0), read)
            });
            match read {
                Ok(Ok(0)) => {
                    self.host_ended = true;
                    guest.close();
                    moved = true;
                }
                Ok(Ok(count)) => {
                    budget.take(count);
                    moved = true;
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(moved),
            }
        }
        Ok(moved)
    }
}

/// Whether nothing more will come of a connection. One that listens has lost its guest before it began.
pub(super) fn is_over(guest: &tcp::Socket<'_>) -> bool {
    matches!(guest.state(), tcp::State::Closed | tcp::State::TimeWait | tcp::State::Listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_has_a_rate_and_an_end() {
        let mut budget = Budget::new(1000, 4000);
        let start = budget.filled;
        assert_eq!(budget.room(), 400);
        budget.take(400);
        assert!(budget.room() == 0 && budget.wait().is_some() && !budget.is_spent());
        budget.fill(start + Duration::from_millis(50));
        assert_eq!(budget.room(), 200);
        budget.fill(start + Duration::from_secs(9));
        assert_eq!(budget.room(), 400);
        budget.take(400);
        budget.fill(start + Duration::from_secs(99));
        assert_eq!(budget.room(), 200);
        budget.take(200);
        assert!(budget.is_spent() && budget.wait().is_none());
    }
}
