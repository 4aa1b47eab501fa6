//! Sessions and links over connections that do what a script says.

use crate::transport::{Answer, Channel, Dial, Handle, Incoming, Reply, Transport};
use crate::{Delivery, Error, Link, Options, Session};
use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::JobId;
use evalfleet_service::settings::{Layers, Settings};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a node does when it is called.
#[derive(Debug, Clone)]
enum Node {
    /// Nobody is there.
    Dead,
    /// It never answers.
    Hangs,
    /// It refuses the login.
    Refuses,
    /// It is there, and answers the publishes on this connection so.
    Answers(Vec<Word>),
}

/// What becomes of a publish.
#[derive(Debug, Clone, Copy)]
enum Word {
    Ack,
    Nack,
    /// The confirm never comes.
    Silence,
    /// The same, and the broker says that it has blocked its publishers.
    Blocked,
    /// The connection breaks.
    Breaks,
}

/// Nodes that do one thing after the other, whichever is called, and who called.
#[derive(Debug, Clone, Default)]
struct Script {
    nodes: Arc<Mutex<VecDeque<Node>>>,
    called: Arc<Mutex<Vec<String>>>,
    /// What was published, each as the number of its connection and the job.
    published: Arc<Mutex<Vec<(usize, JobId)>>>,
    connections: Arc<AtomicUsize>,
}

fn of<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    fn new(nodes: impl IntoIterator<Item = Node>) -> Self {
        Self { nodes: Arc::new(Mutex::new(nodes.into_iter().collect())), ..Self::default() }
    }

    fn called(&self) -> Vec<String> {
        of(&self.called).clone()
    }

    /// On which connections a job was published.
    fn published(&self) -> Vec<usize> {
        of(&self.published).iter().map(|(connection, _)| *connection).collect()
    }
}

impl Dial for Script {
    fn connect<'a>(&'a self, url: &'a str, _: &'a Options) -> Answer<'a, Arc<dyn Transport>> {
        of(&self.called).push(url.to_owned());
        let node = of(&self.nodes).pop_front().expect("the script says what happens next");
        Box::pin(async move {
            match node {
                Node::Dead => Err(Error::Broken("connection refused".to_owned())),
                Node::Hangs => std::future::pending().await,
                Node::Refuses => Err(Error::Denied { node: url.to_owned() }),
                Node::Answers(words) => {
                    let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
                    let words = Mutex::new(words.into());
                    let alive = AtomicBool::new(true);
                    Ok(Arc::new(Line {
                        script: self.clone(),
                        number,
                        words,
                        alive,
                        blocked: AtomicBool::new(false),
                    }) as Arc<dyn Transport>)
                }
            }
        })
    }
}

/// One connection.
#[derive(Debug)]
struct Line {
    script: Script,
    number: usize,
    words: Mutex<VecDeque<Word>>,
    alive: AtomicBool,
    blocked: AtomicBool,
}

impl Transport for Line {
    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    fn publish<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        envelope: &'a Envelope,
        _: &'a [u8],
    ) -> Answer<'a, Reply> {
        of(&self.script.published).push((self.number, envelope.id));
        let word = of(&self.words).pop_front().expect("the script says what happens next");
        Box::pin(async move {
            match word {
                Word::Ack => Ok(Reply::Ack),
                Word::Nack => Ok(Reply::Nack),
                Word::Silence => std::future::pending().await,
                Word::Blocked => {
                    self.blocked.store(true, Ordering::Relaxed);
                    std::future::pending().await
                }
                Word::Breaks => {
                    self.alive.store(false, Ordering::Relaxed);
                    Err(Error::Broken("by the script".to_owned()))
                }
            }
        })
    }

    fn open(&self) -> Answer<'_, Arc<dyn Channel>> {
        Box::pin(std::future::ready(Err(Error::Broken("no channels here".to_owned()))))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// How to reach two nodes.
fn options() -> Options {
    let settings = Settings::from_layers(&Layers::default()).expect("the defaults are sound");
    let urls = ["amqp://user:s3cret@first", "amqp://user:s3cret@second"].map(str::to_owned).to_vec();
    Options { urls, ..Options::new(&settings.broker, "tests") }
}

fn link(script: &Script) -> Link {
    Link::over(Arc::new(script.clone()), options(), CancellationToken::new())
}

fn message() -> Envelope {
    Envelope::new(MessageType::Job, JobId::fresh(), Timestamp::now())
}

/// Publishes one message over a link to what `nodes` do: on which connections it was sent.
async fn sent(nodes: impl IntoIterator<Item = Node>) -> Vec<usize> {
    let (script, envelope) = (Script::new(nodes), message());
    let confirmed = link(&script).publish("exchange", "key", &envelope, b"body").await.expect("it is taken");
    assert_eq!((confirmed.id(), confirmed.kind()), (envelope.id, MessageType::Job));
    assert!(of(&script.published).iter().all(|(_, id)| *id == envelope.id), "always the same message");
    script.published()
}

#[tokio::test(start_paused = true)]
async fn the_second_node_is_taken_when_the_first_is_dead() {
    let script = Script::new([Node::Dead, Node::Answers(Vec::new())]);
    let session = link(&script).try_session().await.expect("the second answers");
    assert_eq!(session.node(), "second");
    assert_eq!(script.called(), options().urls);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_is_waited_for_no_longer_than_the_limit() {
    let (begun, script) =
        (tokio::time::Instant::now(), Script::new([Node::Hangs, Node::Answers(Vec::new())]));
    let session = link(&script).try_session().await.expect("the second answers");
    assert_eq!((session.node(), begun.elapsed()), ("second", options().connect_timeout));
}

#[tokio::test(start_paused = true)]
async fn when_none_answers_the_error_names_them_without_their_passwords() {
    let script = Script::new([Node::Dead, Node::Hangs]);
    let error = link(&script).try_session().await.expect_err("nobody answers");
    let text = error.to_string();
    assert!(error.is_transient() && text.contains("first, second") && !text.contains("s3cret"), "{text}");
    assert!(text.contains("no answer within"), "what the last one did: {text}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_ends_it_at_once() {
    let script = Script::new([Node::Refuses]);
    let error = link(&script).session().await.expect_err("no waiting mends that");
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert_eq!(script.called().len(), 1, "the second node has the same users");
}

#[tokio::test(start_paused = true)]
async fn a_confirm_that_never_comes_is_a_publish_on_a_new_session() {
    let connections = sent([Node::Answers(vec![Word::Silence]), Node::Answers(vec![Word::Ack])]).await;
    assert_eq!(connections, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_nack_is_a_publish_on_a_new_session() {
    // A channel that was opened during a change of leaders refuses for long, another does not.
    let nodes = [vec![Word::Nack], vec![Word::Nack], vec![Word::Ack]].map(Node::Answers);
    assert_eq!(sent(nodes).await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_a_publish_on_a_new_session() {
    let nodes = [Node::Answers(vec![Word::Breaks]), Node::Dead, Node::Dead, Node::Answers(vec![Word::Ack])];
    assert_eq!(sent(nodes).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_stopped_gives_up_and_says_why() {
    let script = Script::new(std::iter::repeat_n(Node::Dead, 100));
    let stop = CancellationToken::new();
    let link = Link::over(Arc::new(script), options(), stop.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        stop.cancel();
    });
    let begun = tokio::time::Instant::now();
    let error = link.publish("exchange", "key", &message(), b"body").await.expect_err("it is stopped");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_connection_is_said() {
    for (word, is_said) in [(Word::Blocked, true), (Word::Silence, false)] {
        let script = Script::new([Node::Answers(vec![word])]);
        let session = Session::connect_over(&script, &options()).await.expect("it answers");
        let (envelope, begun) = (message(), tokio::time::Instant::now());
        let error = session.publish("exchange", "key", &envelope, b"body").await.expect_err("no confirm");
        let text = error.to_string();
        assert_eq!(begun.elapsed(), options().confirm_timeout);
        assert!(text.contains(&envelope.id.to_string()), "{text}");
        assert_eq!(text.contains("blocked its publishers"), is_said, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_is_not_sent() {
    let script = Script::new([Node::Answers(Vec::new())]);
    let session = Session::connect_over(&script, &options()).await.expect("it answers");
    let body = vec![0; evalfleet_proto::wire::BODY_BYTES_MAX + 1];
    let error = session.publish("exchange", "key", &message(), &body).await.expect_err("too large");
    assert!(matches!(error, Error::TooLarge { .. }) && !error.is_transient(), "{error}");
    assert!(script.published().is_empty());
}

/// Counts what becomes of a message.
#[derive(Debug, Clone, Default)]
struct Fate {
    acked: Arc<AtomicUsize>,
    given_back: Arc<AtomicUsize>,
}

impl Fate {
    fn delivery<P>(&self) -> Delivery<P> {
        Delivery::new(Incoming {
            envelope: Some(message()),
            body: Vec::new(),
            redelivered: false,
            key: String::new(),
            handle: Box::new(self.clone()),
        })
    }

    fn counts(&self) -> (usize, usize) {
        (self.acked.load(Ordering::Relaxed), self.given_back.load(Ordering::Relaxed))
    }
}

impl Handle for Fate {
    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        self.acked.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(())))
    }

    fn give_back(self: Box<Self>) {
        self.given_back.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_delivery_is_acked_when_it_is_settled_and_given_back_when_it_is_dropped() {
    let fate = Fate::default();
    drop(fate.delivery::<()>());
    assert_eq!(fate.counts(), (0, 1));
    fate.delivery::<()>().settle(&()).await.expect("it is held");
    assert_eq!(fate.counts(), (1, 1), "settled once, and not given back besides");
    // A settlement that nobody waits for has not happened.
    drop(fate.delivery::<()>().settle(&()));
    assert_eq!(fate.counts(), (1, 2));
}
