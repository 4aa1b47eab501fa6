//! Our agent's part, played on the host for an image that has none.
//!
//! ```text
//!  Active, Clean ──frames──▶ bridge ──ssh or guest agent──▶ scripts in the guest
//!                ◀─frames──
//! ```
//!
//! It speaks the agent's protocol over a pair of sockets, so that everything above it, from the greeting
//! to the verdict, is the same for every image. It lives as long as the other end is open. Whatever
//! breaks in the guest ends it, which reads as an agent that hung up.

use super::super::Error;
use super::hands::{Done, Following, Hands, Happened};
use super::script;
use evalfleet_proto::guest::{Awake, FRAME_BYTES_MAX, FromGuest, Hello, LENGTH_BYTES, Run, ToGuest};
use evalfleet_proto::wire;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::UnixStream;

/// How long flushing the guest's disk may take.
const SYNC: Duration = Duration::from_secs(30);
/// How long a guest may take to come to rest after its boot.
const SETTLE: Duration = Duration::from_secs(150);

/// Plays the agent on `stream`, by hands that `find` finds: it may try as long as it likes.
pub(super) async fn serve(stream: UnixStream, find: impl Future<Output = Hands>, settle: bool) {
    let (from, to) = tokio::io::split(stream);
    let mut ear = Ear { from, pending: Vec::new() };
    let mut voice = Voice(to);
    let played = async {
        let Some(ToGuest::Hello(hello)) = ear.hear().await? else {
            return Err(Error::Agent("is not greeted first".to_owned()));
        };
        // Nothing is said before the answer, so whatever is heard now is the end.
        let hands = tokio::select! {
            hands = find => hands,
            heard = ear.hear() => return heard.map(drop),
        };
        if settle {
            hands.exec(script::SETTLE, &[], &[], SETTLE).await?;
        }
        greet(&hands, &mut voice, &hello).await?;
        while let Some(message) = ear.hear().await? {
            obey(&hands, &mut ear, &mut voice, message).await?;
        }
        Ok(())
    };
    if let Err(error) = played.await {
        tracing::debug!(%error, "a foreign image's channel ended");
    }
}

async fn obey(hands: &Hands, ear: &mut Ear, voice: &mut Voice, message: ToGuest) -> Result<(), Error> {
    match message {
        ToGuest::Hello(hello) => greet(hands, voice, &hello).await,
        ToGuest::Put(put) => {
            let error = hands.put(&put).await?.err();
            voice.say(&FromGuest::Laid { error }).await
        }
        ToGuest::Run(run) => Box::pin(run_one(hands, ear, voice, &run)).await,
        ToGuest::Sync => {
            let Done { code, .. } = hands.exec(script::SYNC, &[], &[], SYNC).await?;
            let said = if code == Some(0) {
                FromGuest::Synced
            } else {
                FromGuest::Error { error: format!("sync ended with {code:?}") }
            };
            voice.say(&said).await
        }
        // Of a run that has ended meanwhile.
        ToGuest::Stdin(_) | ToGuest::StdinEnd | ToGuest::Kill => Ok(()),
    }
}

/// Wakes the guest: its clock, its randomness, its identity, its nonce.
async fn greet(hands: &Hands, voice: &mut Voice, hello: &Hello) -> Result<(), Error> {
    hands.set_time().await;
    // The way in may have taken seconds since the greeting was written.
    let now = now_ns();
    let clock = format!("{}.{:09}", now / 1_000_000_000, now % 1_000_000_000);
    let arguments = [clock, hex::encode(&hello.entropy), hello.nonce.clone(), hello.hostname.clone()];
    let said = hands.must(script::GREET, &arguments).await?;
    let mut awake = awake(&said, hands.channel().as_str());
    awake.clock_ns = as_if_at(hello.clock_ns, awake.clock_ns, now_ns());
    voice.say(&FromGuest::Hello(awake)).await
}

fn now_ns() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// What a clock that shows `guest` when it is `now` would have shown at the moment `greeting`.
fn as_if_at(greeting: u64, guest: u64, now: u64) -> u64 {
    if guest >= now { greeting.saturating_add(guest - now) } else { greeting.saturating_sub(now - guest) }
}

fn awake(said: &str, channel: &str) -> Awake {
    let value =
        |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default();
    Awake {
        nonce: value("nonce:").to_owned(),
        agent: channel.to_owned(),
        random: hex::decode(value("random:")).unwrap_or_default(),
        clock_ns: value("clock:").parse().unwrap_or(0),
        errors: said
            .lines()
            .filter_map(|line| line.strip_prefix("error:"))
            .map(|why| why.trim().to_owned())
            .collect(),
    }
}

async fn run_one(hands: &Hands, ear: &mut Ear, voice: &mut Voice, run: &Run) -> Result<(), Error> {
    let prepared = hands.must(script::PREPARE, &script::prepare(run)).await?;
    if let Err((error, errno)) = script::prepared(&prepared) {
        return voice.say(&FromGuest::NotStarted { error, errno }).await;
    }
    let mut following = hands.start(script::run(run)).await?;
    voice.say(&FromGuest::Started).await?;
    follow(hands, ear, voice, &mut following).await?;
    let report = hands.must(script::REPORT, &[]).await?;
    let exited = script::exited(&report).ok_or_else(|| Error::Agent("reports no status".to_owned()))?;
    voice.say(&FromGuest::Exited(exited)).await
}

async fn follow(
    hands: &Hands,
    ear: &mut Ear,
    voice: &mut Voice,
    following: &mut Following,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            woken = following.woken() => {
                woken?;
                while let Some(happened) = following.look(hands).await? {
                    match happened {
                        Happened::Output { stderr, data } => voice.say(&FromGuest::Output { stderr, data }).await?,
                        Happened::Ended => return Ok(()),
                    }
                }
            }
            heard = ear.hear() => match heard? {
                Some(ToGuest::Stdin(data)) => following.feed(hands, &data).await?,
                Some(ToGuest::StdinEnd) => following.end_of_input(hands).await?,
                Some(ToGuest::Kill) => {
                    hands.must(script::KILL, &[]).await?;
                }
                Some(other @ (ToGuest::Hello(_) | ToGuest::Put(_) | ToGuest::Run(_) | ToGuest::Sync)) => {
                    return Err(Error::Agent(format!("is told {other:?} in the middle of a run")));
                }
                None => return Err(Error::Agent("is left alone in the middle of a run".to_owned())),
            },
        }
    }
}

/// The host's words; cancel-safe, since what was read of a frame is kept.
struct Ear {
    from: ReadHalf<UnixStream>,
    pending: Vec<u8>,
}

impl Ear {
    /// Waits for the next word; `None` when there will be none.
    async fn hear(&mut self) -> Result<Option<ToGuest>, Error> {
        loop {
            if let Some((length, rest)) = self.pending.split_first_chunk::<LENGTH_BYTES>() {
                let length = u32::from_le_bytes(*length) as usize;
                if length > FRAME_BYTES_MAX {
                    return Err(Error::Agent(format!("is sent a frame of {length} bytes")));
                }
                if rest.len() >= length {
                    let word = wire::decode(&rest[..length])
                        .map_err(|error| Error::Agent(format!("does not understand: {error}")))?;
                    self.pending.drain(..LENGTH_BYTES + length);
                    return Ok(Some(word));
                }
            }
            let read = self.from.read_buf(&mut self.pending).await;
            if read.map_err(|error| Error::Agent(format!("hears nothing: {error}")))? == 0 {
                return Ok(None);
            }
        }
    }
}

struct Voice(WriteHalf<UnixStream>);

impl Voice {
    async fn say(&mut self, word: &FromGuest) -> Result<(), Error> {
        let body = wire::encode(word);
        let frame = [&(body.len() as u32).to_le_bytes()[..], &body].concat();
        self.0.write_all(&frame).await.map_err(|error| Error::Agent(format!("is not heard: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waking_guest_is_understood_with_what_went_wrong() {
        let said = "error: the clock cannot be set\nclock: 1700000000000000000\nrandom: 00ff\nnonce: abc\n";
        let awake = awake(said, "ssh");
        assert_eq!((awake.nonce.as_str(), awake.clock_ns), ("abc", 1_700_000_000_000_000_000));
        assert_eq!(awake.random, [0, 255]);
        assert_eq!(awake.errors, ["the clock cannot be set"]);
    }

    #[test]
    fn a_clock_is_judged_by_the_moment_it_was_read() {
        assert_eq!(as_if_at(1000, 5990, 6000), 990);
        assert_eq!(as_if_at(1000, 9000, 6000), 4000);
    }

    #[tokio::test]
    async fn it_ends_with_the_other_end_even_while_it_searches() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let served = tokio::spawn(serve(theirs, std::future::pending(), false));
        let (_, mut to) = tokio::io::split(ours);
        let body = wire::encode(&ToGuest::Sync);
        to.write_all(&[&(body.len() as u32).to_le_bytes()[..], &body].concat()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap();
    }
}
