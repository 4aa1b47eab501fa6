//! The task of one VM's gateway: the stream to QEMU, the sockets of the host, and [`Relay`] between them.
//!
//! One `poll` looks at everything that can move, a bounded number of times, and then lets others run.

use super::Shared;
use super::dial::{Failure, Resolver};
use super::flow::{Budget, Flow, Pumped, is_over};
use super::ledger::Attempt;
use super::queue::{FRAME_BYTES_MAX, Incoming};
use super::relay::{Dial, Lookup, Relay, Target, Wish};
use bytes::Buf as _;
use evalfleet_proto::network::Protocol;
use futures::StreamExt as _;
use futures::future::{BoxFuture, poll_fn};
use futures::stream::FuturesUnordered;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;

/// How often everything is looked at before others may run.
const ROUNDS_MAX: usize = 32;
/// Frames that are taken in one round.
const FRAMES_MAX: usize = 64;

enum Done {
    Dialed(Dial, Result<TcpStream, Failure>),
    Found(Lookup, Result<Vec<IpAddr>, Failure>),
}

struct Gateway {
    qemu: UnixStream,
    incoming: Incoming,
    relay: Relay,
    flows: Vec<Flow>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    budget: Budget,
    resolver: Resolver,
    epoch: u64,
    shared: Arc<Shared>,
    alarm: Pin<Box<Sleep>>,
}

/// Serves one VM until its QEMU closes the stream.
pub(super) async fn serve(qemu: UnixStream, shared: Arc<Shared>, resolver: Resolver) {
    let mut gateway = Gateway {
        qemu,
        incoming: Incoming::default(),
        relay: Relay::new(shared.clone()),
        flows: Vec::new(),
        under_way: FuturesUnordered::new(),
        budget: Budget::new(0, 0),
        resolver,
        epoch: 0,
        shared,
        alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
    };
    let end = poll_fn(|cx| gateway.poll(cx)).await;
    tracing::debug!(%end, "a VM's network is gone");
}

impl Gateway {
    /// Moves everything that can be moved; ready when the stream to QEMU is no more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.shared.woken.register(cx.waker());
        for _ in 0..ROUNDS_MAX {
            self.notice_the_next_job();
            match self.round(cx) {
                Ok(true) => {}
                Ok(false) => {
                    // Without room for what it would say, smoltcp need not be asked.
                    let rest = if self.relay.ether.out.has_room() { self.relay.rest() } else { None };
                    let rest = [rest, self.budget.wait()].into_iter().flatten().min();
                    let Some(rest) = rest else { return Poll::Pending };
                    if rest.is_zero() {
                        continue;
                    }
                    self.alarm.as_mut().reset(tokio::time::Instant::now() + rest);
                    if self.alarm.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                Err(error) => return Poll::Ready(error),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn notice_the_next_job(&mut self) {
        let epoch = self.shared.epoch.load(Ordering::Relaxed);
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        self.flows.drain(..).for_each(|flow| flow.reset());
        self.under_way.clear();
        self.relay.renew();
        let bounds = self.relay.policy.bounds;
        self.budget = Budget::new(bounds.bytes.bytes(), bounds.rate.bytes());
    }

    /// Looks at everything once; tells whether anything moved.
    fn round(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = self.read(cx)?;
        for _ in 0..FRAMES_MAX {
            // What a frame is answered with must have room.
            if !self.relay.ether.out.has_room() {
                break;
            }
            let frame =
                self.incoming.next().map_err(|_| io::Error::other("QEMU announced too large a frame"))?;
            let Some(frame) = frame else { break };
            self.relay.take(&frame);
            moved = true;
        }
        while let Some(wish) = self.relay.wishes.pop_front() {
            self.begin(wish);
            moved = true;
        }
        while let Poll::Ready(Some(done)) = self.under_way.poll_next_unpin(cx) {
            self.finish(done);
            moved = true;
        }
        moved |= self.pump(cx);
        self.relay.send();
        self.bury();
        Ok(self.write(cx)? || moved)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while self.incoming.0.len() <= FRAME_BYTES_MAX {
            let Poll::Ready(ready) = self.qemu.poll_read_ready(cx) else { break };
            ready?;
            self.incoming.0.reserve(FRAME_BYTES_MAX);
            match self.qemu.try_read_buf(&mut self.incoming.0) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => moved = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let out = &mut self.relay.ether.out.0;
        let mut moved = false;
        while !out.is_empty() {
            let Poll::Ready(ready) = self.qemu.poll_write_ready(cx) else { break };
            ready?;
            match self.qemu.try_write(out) {
                Ok(count) => {
                    out.advance(count);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    fn begin(&mut self, wish: Wish) {
        let (resolver, policy) = (self.resolver.clone(), self.relay.policy.clone());
        self.under_way.push(match wish {
            Wish::Dial(dial) => Box::pin(async move {
                let made = resolver.dial(&policy, &dial.to).await;
                Done::Dialed(dial, made)
            }),
            Wish::Lookup(lookup) => Box::pin(async move {
                let found = resolver.look_up(&policy, &lookup.question.name, None).await;
                Done::Found(lookup, found)
            }),
        });
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Dialed(dial, made) => {
                self.relay.note(Protocol::Tcp, attempt(&dial.to, &made));
                match made {
                    Ok(host) => {
                        if let Some(handle) = self.relay.accept(dial) {
                            self.flows.push(Flow::new(handle, host));
                        }
                    }
                    Err(_) => self.relay.refuse(&dial),
                }
            }
            Done::Found(lookup, found) => {
                let (refused, error) = told(&found);
                let name = Some(lookup.question.name.clone());
                let attempt = Attempt { name, allowed: !refused, error, ..Attempt::default() };
                self.relay.note(Protocol::Dns, attempt);
                self.relay.answer(&lookup, found.is_ok(), refused);
            }
        }
    }

    fn pump(&mut self, cx: &mut Context<'_>) -> bool {
        self.budget.fill(Instant::now());
        let mut moved = false;
        for flow in &mut self.flows {
            let guest = self.relay.socket(flow.handle);
            if self.budget.is_spent() {
                guest.abort();
                flow.reset();
            }
            moved |= flow.pump(cx, guest, &mut self.budget) == Pumped::Moved;
        }
        self.relay.spent = self.budget.is_spent() && self.epoch > 0;
        if self.relay.spent {
            self.shared.ledger().cut_off(self.relay.policy.bounds.bytes.bytes());
        }
        moved
    }

    /// Forgets connections whose last packet has been sent.
    fn bury(&mut self) {
        let relay = &mut self.relay;
        self.flows.retain(|flow| {
            let socket = relay.socket(flow.handle);
            // An aborted socket is closed at once, and has its reset still to send.
            let over = is_over(socket) && (socket.is_open() || socket.remote_endpoint().is_none());
            if over {
                relay.forget(flow.handle);
            }
            !over
        });
    }
}

fn told<T>(outcome: &Result<T, Failure>) -> (bool, Option<String>) {
    match outcome {
        Ok(_) => (false, None),
        Err(Failure::Failed(error)) => (false, Some(error.clone())),
        Err(Failure::Refused(error)) => (true, Some(error.clone())),
    }
}

fn attempt(to: &Target, made: &Result<TcpStream, Failure>) -> Attempt {
    let (refused, error) = told(made);
    let reached = made.as_ref().ok().and_then(|stream| stream.peer_addr().ok());
    let (destination, port, name) = match to {
        Target::Address(address) => (Some(address.ip()), address.port(), None),
        Target::Name(name, port) => (reached.map(|address| address.ip()), *port, Some(name.clone())),
    };
    let destination = destination.map(|address| address.to_string());
    Attempt { destination, port: Some(port), name, allowed: !refused, error }
}
