//! The service against a broker of a few lines, with a runner that runs nothing.

use super::*;
use evalfleet_broker::Options;
use evalfleet_broker::transport::{
    Answer, Channel, Dial, Handle, Incoming, Reply, Source as Feed, Start, Transport,
};
use evalfleet_proto::control::Control as Word;
use evalfleet_proto::ids::BatchId;
use evalfleet_proto::kept::KeptJob;
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_proto::topology::Topology;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Layers;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Notify, watch};

/// A message as the broker holds it.
#[derive(Debug, Clone)]
struct Message {
    envelope: Envelope,
    body: Vec<u8>,
    redelivered: bool,
}

#[derive(Debug, Default)]
struct Books {
    jobs: VecDeque<Message>,
    log: Vec<Message>,
    results: Vec<Evaluation>,
    /// Where results and events went besides.
    inboxes: Vec<(MessageType, Option<String>)>,
    acked: usize,
}

/// One lane, one log, and every retry comes back at once.
#[derive(Debug, Clone, Default)]
struct Broker {
    books: Arc<Mutex<Books>>,
    changed: Arc<Notify>,
    /// Whether a copy that asks for the next try loses its first delivery.
    loses_retries: bool,
}

impl Broker {
    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, job: &Job, redelivered: bool) {
        self.submit_from(None, job, redelivered);
    }

    fn submit_from(&self, inbox: Option<&str>, job: &Job, redelivered: bool) {
        let envelope = Envelope::of_job(job, 2, job.submitted).for_inbox(inbox);
        self.books().jobs.push_back(Message { envelope, body: wire::encode(job), redelivered });
        self.changed.notify_waiters();
    }

    fn say(&self, word: &Word) {
        let envelope = Envelope::new(MessageType::Control, JobId::fresh(), Timestamp::now());
        self.books().log.push(Message { envelope, body: wire::encode(word), redelivered: false });
        self.changed.notify_waiters();
    }

    async fn until<T>(&self, mut so: impl FnMut(&mut Books) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(found) = so(&mut self.books()) {
                return found;
            }
            let _ = tokio::time::timeout(Duration::from_millis(10), changed).await;
        }
    }

    async fn results(&self, count: usize) -> Vec<Evaluation> {
        self.until(|books| (books.acked >= count).then(|| books.results.clone())).await
    }
}

impl Dial for Broker {
    fn connect<'a>(&'a self, _: &'a str, _: &'a Options) -> Answer<'a, Arc<dyn Transport>> {
        Box::pin(async { Ok(Arc::new(self.clone()) as Arc<dyn Transport>) })
    }
}

impl Transport for Broker {
    fn is_alive(&self) -> bool {
        true
    }

    fn is_blocked(&self) -> bool {
        false
    }

    fn publish<'a>(
        &'a self,
        exchange: &'a str,
        _: &'a str,
        envelope: &'a Envelope,
        body: &'a [u8],
    ) -> Answer<'a, Reply> {
        let message =
            Message { envelope: envelope.clone(), body: body.to_vec(), redelivered: self.loses_retries };
        let mut books = self.books();
        if [MessageType::Result, MessageType::Event].contains(&envelope.kind) {
            books.inboxes.push((envelope.kind, envelope.inbox.clone()));
        }
        match exchange {
            topology::RESULTS => books.results.push(wire::decode(body).unwrap()),
            topology::RETRY => books.jobs.push_back(message),
            topology::CONTROL => books.log.push(message),
            _ => {}
        }
        self.changed.notify_waiters();
        Box::pin(std::future::ready(Ok(Reply::Ack)))
    }

    fn open(&self) -> Answer<'_, Arc<dyn Channel>> {
        Box::pin(async { Ok(Arc::new(self.clone()) as Arc<dyn Channel>) })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What a worker has no right to.
fn denied<T: Send + 'static>() -> Answer<'static, T> {
    Box::pin(std::future::ready(Err(Error::Broken("not for a worker".to_owned()))))
}

impl Channel for Broker {
    fn declare<'a>(&'a self, _: &'a Topology) -> Answer<'a, ()> {
        denied()
    }

    fn get<'a>(&'a self, queue: &'a str) -> Answer<'a, Option<Incoming>> {
        let next = if queue == "eval.jobs.default" { self.books().jobs.pop_front() } else { None };
        Box::pin(std::future::ready(Ok(next.map(|message| self.hand_out(message)))))
    }

    fn consume<'a>(&'a self, queue: &'a str, _: u16) -> Answer<'a, Box<dyn Feed>> {
        let reader = Reader { broker: self.clone(), jobs: queue == "eval.jobs.default", read: None };
        Box::pin(async { Ok(Box::new(reader) as Box<dyn Feed>) })
    }

    fn follow<'a>(&'a self, log: &'a str, from: Start, _: u16) -> Answer<'a, Box<dyn Feed>> {
        assert_eq!((log, from), (topology::CONTROL_LOG, Start::First));
        let reader = Reader { broker: self.clone(), jobs: false, read: Some(0) };
        Box::pin(async { Ok(Box::new(reader) as Box<dyn Feed>) })
    }

    fn depth<'a>(&'a self, _: &'a str) -> Answer<'a, (u32, u32)> {
        denied()
    }

    fn declare_inbox<'a>(&'a self, _: &'a str, _: Duration, _: u64) -> Answer<'a, ()> {
        denied()
    }

    fn bind<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> Answer<'a, ()> {
        denied()
    }

    fn unbind<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> Answer<'a, ()> {
        denied()
    }

    fn delete<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        denied()
    }
}

impl Broker {
    fn hand_out(&self, message: Message) -> Incoming {
        Incoming {
            envelope: Some(message.envelope),
            body: message.body,
            redelivered: message.redelivered,
            key: "default".to_owned(),
            handle: Box::new(Ack(self.clone())),
        }
    }
}

#[derive(Debug)]
struct Reader {
    broker: Broker,
    jobs: bool,
    read: Option<usize>,
}

impl Feed for Reader {
    fn next(&mut self) -> Answer<'_, Incoming> {
        Box::pin(async {
            let (jobs, read) = (self.jobs, self.read);
            let next = self.broker.until(|books| match read {
                Some(at) => books.log.get(at).cloned(),
                None if jobs => books.jobs.pop_front(),
                None => None,
            });
            let message = next.await;
            self.read = read.map(|at| at + 1);
            let handed_out = self.broker.hand_out(message);
            // To acknowledge an entry of a log settles nothing.
            Ok(if jobs { handed_out } else { Incoming { handle: Box::new(Nothing), ..handed_out } })
        })
    }
}

#[derive(Debug)]
struct Ack(Broker);

impl Handle for Ack {
    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        self.0.books().acked += 1;
        Box::pin(std::future::ready(Ok(())))
    }

    fn give_back(self: Box<Self>) {}
}

#[derive(Debug)]
struct Nothing;

impl Handle for Nothing {
    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn give_back(self: Box<Self>) {}
}

/// What the runner does with each try.
#[derive(Debug, Clone, Copy)]
enum Does {
    Pass,
    Fault,
    /// Runs until it is called off, and reports that.
    Heed,
    /// Breaks when it is called off.
    Break,
}

#[derive(Debug)]
struct Stand {
    does: VecDeque<Does>,
    ran: Arc<Mutex<Vec<u32>>>,
    worker: WorkerId,
    supply: watch::Sender<crate::supply::Status>,
}

impl Run for Stand {
    async fn run(
        &mut self,
        job: &Job,
        taken: Timestamp,
        cancel: &CancellationToken,
        tell: &mut (dyn FnMut(vm::Event) + Send),
    ) -> Fate {
        self.ran.lock().unwrap().push(job.attempt());
        tell(vm::Event::Started);
        let verdict = match self.does.pop_front().unwrap() {
            Does::Pass => Verdict {
                status: Status::Passed,
                cause: None,
                evidence: Vec::new(),
                exit_code: None,
                signal: None,
            },
            Does::Fault => return Fate::Fault("the VM died".to_owned()),
            Does::Heed => {
                cancel.cancelled().await;
                Verdict::cancelled("called off while it ran")
            }
            Does::Break => {
                cancel.cancelled().await;
                return Fate::Fault("QEMU did not die".to_owned());
            }
        };
        Fate::Done(Box::new(self.blank(job, taken, verdict)))
    }

    fn supply(&self) -> watch::Receiver<crate::supply::Status> {
        self.supply.subscribe()
    }

    async fn put_away(&mut self) {}

    fn place(&self) -> (&WorkerId, &str) {
        (&self.worker, "here")
    }
}

/// A worker at work.
struct Scene {
    broker: Broker,
    ran: Arc<Mutex<Vec<u32>>>,
    drain: CancellationToken,
    /// Ends with how many answers are remembered then.
    serving: tokio::task::JoinHandle<Result<usize, Error>>,
}

impl Scene {
    fn begin(broker: Broker, does: &[Does]) -> Self {
        Self::begin_keeping(broker, does, None)
    }

    fn begin_keeping(broker: Broker, does: &[Does], blobs: Option<&Blobs>) -> Self {
        let settings =
            Arc::new(evalfleet_service::settings::Settings::from_layers(&Layers::default()).unwrap());
        let (ran, drain) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
        let options = Options::new(&settings.broker, "w1");
        let link = Arc::new(Link::over(Arc::new(broker.clone()), options, drain.clone()));
        let worker: WorkerId = "w1".parse().unwrap();
        let (supply, _) = watch::channel(crate::supply::Status::default());
        let does = does.iter().copied().collect();
        let runner = Stand { does, ran: ran.clone(), worker: worker.clone(), supply };
        let control = Control::listen(link.clone(), worker.clone(), drain.clone());
        let keeper = blobs.map(|blobs| Keeper::new(blobs.clone(), &settings));
        let mut service = Service::new(link, runner, worker, settings).heeding(control);
        service.keeper = keeper;
        let (draining, never) = (drain.clone(), CancellationToken::new());
        let serving = tokio::spawn(async move {
            service.serve(&draining, &never).await?;
            Ok(service.answered.len())
        });
        Self { broker, ran, drain, serving }
    }

    /// Waits until so many messages are settled; gives the results and the tries that were run.
    async fn end(self, settled: usize) -> (Vec<Evaluation>, Vec<u32>) {
        let ended = async {
            let results = self.broker.results(settled).await;
            self.drain.cancel();
            let remembered = self.serving.await.unwrap().unwrap();
            assert!(remembered <= ANSWERED_MAX, "{remembered} answers are remembered");
            assert_eq!(self.broker.books().acked, settled, "each message is settled, once");
            results
        };
        let results = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it took too long");
        let ran = self.ran.lock().unwrap().clone();
        (results, ran)
    }
}

fn job(batch: Option<&str>) -> Job {
    let mut submission = Submission::command(["true"]);
    submission.batch = batch.map(|name| name.parse().unwrap());
    submission.into_job(&Defaults { image: "base".parse().unwrap(), now: Timestamp::now() }).unwrap()
}

fn cancel(job: &Job) -> Word {
    Word::Cancel { job: job.id, reason: Some("superseded".to_owned()) }
}

fn called_off(result: &Evaluation, how: &str) {
    assert_eq!(
        (result.status, result.cause, result.success_rate),
        (Status::Cancelled, Some(Cause::Harness), None)
    );
    let messages: Vec<_> = result.evidence.iter().map(|evidence| evidence.message.as_str()).collect();
    assert_eq!(messages, ["called off: superseded", how]);
    assert_eq!(result.evidence[0].source, Source::Client);
    assert_eq!(result.broken_rule(), None);
}

#[tokio::test]
async fn a_job_that_was_called_off_before_the_worker_was_there_is_not_run() {
    let (broker, doomed, other) = (Broker::default(), job(None), job(None));
    broker.submit(&doomed, false);
    broker.submit(&other, false);
    broker.say(&cancel(&doomed));
    let (results, ran) = Scene::begin(broker, &[Does::Pass]).end(2).await;
    called_off(&results[0], "called off before it was run");
    assert_eq!(
        (results.len(), results[1].id, results[1].status, ran.len()),
        (2, other.id, Status::Passed, 1)
    );
}

#[tokio::test]
async fn a_batch_is_called_off_with_what_was_submitted_until_then() {
    let (broker, doomed) = (Broker::default(), job(Some("night")));
    let batch: BatchId = "night".parse().unwrap();
    let until = Timestamp::now();
    broker.say(&Word::CancelBatch { batch, until, reason: None });
    broker.submit(&doomed, false);
    let mut later = job(Some("night"));
    later.submitted = until + Duration::from_secs(1);
    broker.submit(&later, false);
    let (results, ran) = Scene::begin(broker, &[Does::Pass]).end(2).await;
    assert_eq!((results[0].status, results[1].status, ran.len()), (Status::Cancelled, Status::Passed, 1));
}

#[tokio::test]
async fn a_running_job_is_called_off_and_what_breaks_on_the_way_is_not_tried_again() {
    for (does, how) in [(Does::Heed, "called off while it ran"), (Does::Break, "QEMU did not die")] {
        let (broker, doomed) = (Broker::default(), job(None));
        broker.submit(&doomed, false);
        let scene = Scene::begin(broker.clone(), &[does]);
        while scene.ran.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        broker.say(&cancel(&doomed));
        let (results, ran) = scene.end(1).await;
        called_off(&results[0], how);
        assert_eq!((results.len(), ran.len()), (1, 1));
    }
}

#[tokio::test]
async fn a_job_that_waits_for_its_next_try_is_called_off_then() {
    let (broker, doomed) = (Broker::default(), job(None));
    broker.submit(&doomed, false);
    let scene = Scene::begin(broker.clone(), &[Does::Fault, Does::Heed]);
    broker.until(|books| (books.acked == 1).then_some(())).await;
    broker.say(&cancel(&doomed));
    let (results, _) = scene.end(2).await;
    assert_eq!((results.len(), results[0].status, results[0].attempts.len()), (1, Status::Cancelled, 1));
}

/// Whichever try it is that ends the job.
#[tokio::test]
async fn the_answer_goes_to_the_inbox_that_the_job_came_from() {
    let broker = Broker::default();
    broker.submit_from(Some("eval.client.one"), &job(None), false);
    let (results, ran) = Scene::begin(broker.clone(), &[Does::Fault, Does::Pass]).end(2).await;
    assert_eq!((results.len(), ran), (1, vec![1, 2]));
    let inboxes = broker.books().inboxes.clone();
    let ours = |(_, inbox): &(MessageType, Option<String>)| inbox.as_deref() == Some("eval.client.one");
    assert!(inboxes.iter().any(|(kind, _)| *kind == MessageType::Result), "{inboxes:?}");
    assert!(inboxes.iter().all(ours), "{inboxes:?}");
}

/// The copy that asks for the second try was delivered, lost with its connection, and comes again: the
/// worker has answered this job, but not this message.
#[tokio::test]
async fn a_second_try_is_not_settled_with_the_proof_of_the_first() {
    let broker = Broker { loses_retries: true, ..Broker::default() };
    broker.submit(&job(None), false);
    let (results, ran) = Scene::begin(broker, &[Does::Fault, Does::Pass]).end(2).await;
    assert_eq!(ran, [1, 2]);
    assert_eq!((results.len(), results[0].status, results[0].attempts.len()), (1, Status::Passed, 1));
}

#[tokio::test]
async fn a_message_whose_ack_was_lost_is_settled_and_not_run_again() {
    let (broker, job) = (Broker::default(), job(None));
    broker.submit(&job, false);
    let scene = Scene::begin(broker.clone(), &[Does::Pass]);
    broker.results(1).await;
    broker.submit(&job, true);
    let (results, ran) = scene.end(2).await;
    assert_eq!((results.len(), ran), (1, vec![1]));
}

#[tokio::test]
async fn only_the_last_answers_are_remembered() {
    let broker = Broker::default();
    let jobs: Vec<Job> = (0..=ANSWERED_MAX).map(|_| job(None)).collect();
    for job in &jobs {
        broker.submit(job, false);
    }
    let scene = Scene::begin(broker.clone(), &[Does::Pass; ANSWERED_MAX + 2]);
    broker.results(jobs.len()).await;
    // The first was forgotten and is run again, which the recorder passes over; the last was not.
    broker.submit(&jobs[ANSWERED_MAX], true);
    broker.submit(&jobs[0], true);
    let (results, ran) = scene.end(jobs.len() + 2).await;
    assert_eq!((results.len(), ran.len()), (jobs.len() + 1, jobs.len() + 1));
}

#[tokio::test]
async fn what_a_job_asks_is_there_when_its_result_points_to_it() {
    let (broker, blobs) = (Broker::default(), Blobs::in_memory());
    let (ran, doomed) = (job(None), job(None));
    broker.submit(&ran, false);
    broker.submit(&doomed, false);
    broker.say(&cancel(&doomed));
    let (results, _) = Scene::begin_keeping(broker, &[Does::Pass], Some(&blobs)).end(2).await;
    for (result, job) in results.iter().zip([&ran, &doomed]) {
        assert_eq!((result.id, &result.provenance.job_withheld), (job.id, &None));
        let kept = blobs.get(result.provenance.job.expect("it is kept")).await.unwrap();
        assert_eq!(KeptJob::decode(&kept).unwrap(), KeptJob::of(job).unwrap());
    }
    assert_eq!(blobs.entries().await.unwrap().len(), 1, "they ask the same");
}

#[tokio::test]
async fn a_job_that_cannot_be_kept_is_tried_again_as_with_any_fault_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("blobs");
    let blobs = Blobs::in_dir(&place).unwrap();
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::write(&place, "no folder").unwrap();
    let settings = evalfleet_service::settings::Settings::from_layers(&Layers::default()).unwrap();
    let tries = settings.broker.attempts_max as usize;
    let broker = Broker::default();
    broker.submit(&job(None), false);
    let (results, ran) =
        Scene::begin_keeping(broker, &vec![Does::Pass; tries], Some(&blobs)).end(tries).await;
    assert_eq!((results.len(), ran.len()), (1, tries));
    assert_eq!((results[0].status, results[0].cause), (Status::Dead, Some(Cause::Infrastructure)));
    assert!(results[0].attempts[0].error.contains("cannot be kept"), "{:?}", results[0].attempts);
}
