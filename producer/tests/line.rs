//! The client's side of the line on a real, private RabbitMQ: submitted, waited for, across a restart
//! of the broker, and through the dead letters. A worker is played by hand.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

mod stage;

use evalfleet::client::{Client, as_they_come};
use evalfleet::dead::{Office, Which};
use evalfleet_proto::job::Task;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::submission::Submission;
use futures::{StreamExt as _, TryStreamExt as _};
use stage::{Stage, within};

/// One node serves all scenes: its start is most of the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_go_out_and_evaluations_come_back() {
    let Some(stage) = Stage::set().await else { return };
    Box::pin(a_job_is_answered_with_its_live_output(&stage)).await;
    Box::pin(many_are_answered_as_they_come(&stage)).await;
    Box::pin(arguments_that_do_not_fit_are_not_enqueued(&stage)).await;
    Box::pin(dead_letters_are_listed_and_replayed(&stage)).await;
    Box::pin(a_result_survives_a_restart_of_the_broker(&stage)).await;
    stage.strike().await;
}

async fn a_job_is_answered_with_its_live_output(stage: &Stage) {
    let client = Client::connect(&stage.settings).await.unwrap();
    let mut worker = stage.worker().await;
    let pending = client.submit(Submission::command(["echo", "hi"])).await.unwrap();
    let id = pending.id();
    let job = worker.take().await;
    assert_eq!(job.job.id, id);
    worker.say(&job, b"hi\n").await;
    worker.answer(job, Status::Passed, None).await;
    let mut heard = Vec::new();
    let evaluation = within(pending.watch(|event| heard.push(event))).await.unwrap();
    assert_eq!((evaluation.id, evaluation.status), (id, Status::Passed));
    assert_eq!(heard.len(), 1, "{heard:?}");
    client.close().await;
}

async fn many_are_answered_as_they_come(stage: &Stage) {
    let client = Client::connect(&stage.settings).await.unwrap();
    let mut worker = stage.worker().await;
    let submissions = (0..40).map(|n| Submission::command(["true".to_owned(), n.to_string()]));
    let pending: Vec<_> = within(client.submit_many(submissions).try_collect()).await.unwrap();
    let ids: std::collections::BTreeSet<_> = pending.iter().map(|pending| pending.id()).collect();
    assert_eq!(ids.len(), 40);
    let playing = tokio::spawn(async move {
        for _ in 0..40 {
            let job = worker.take().await;
            worker.answer(job, Status::Failed, Some(Cause::Subject)).await;
        }
    });
    let results: Vec<_> = within(as_they_come(pending).collect::<Vec<_>>()).await;
    let answered: std::collections::BTreeSet<_> =
        results.into_iter().map(|result| result.unwrap().id).collect();
    assert_eq!(answered, ids);
    playing.await.unwrap();
    client.close().await;
}

async fn arguments_that_do_not_fit_are_not_enqueued(stage: &Stage) {
    let client = Client::connect(&stage.settings).await.unwrap();
    let call = |args: &str| {
        Submission::from_json(&format!(
            r#"{{"kind": "function_call", "tool": "word_count", "args": {args}}}"#
        ))
        .unwrap()
    };
    let refused = client.submit(call(r#"{"text": 3}"#)).await.unwrap_err();
    assert_eq!(refused.exit().code(), 4);
    assert!(refused.to_string().contains("/text"), "{refused}");
    let mut worker = stage.worker().await;
    let pending = client.submit(call(r#"{"text": "a b"}"#)).await.unwrap();
    let job = worker.take().await;
    assert_eq!(job.job.id, pending.id(), "the refused job was not enqueued");
    assert!(matches!(&job.job.task, Task::FunctionCall(call) if call.args["text"] == "a b"));
    worker.answer(job, Status::Passed, None).await;
    within(pending.wait()).await.unwrap();
    client.close().await;
}

async fn dead_letters_are_listed_and_replayed(stage: &Stage) {
    let client = Client::connect(&stage.settings).await.unwrap();
    let mut worker = stage.worker().await;
    let dead = client.enqueue(Submission::command(["doomed"])).await.unwrap();
    let job = worker.take().await;
    worker.bury(job).await;

    let office = Office::open(&stage.settings).await.unwrap();
    let letter = stage.until(async || office.list(10).await.unwrap().into_iter().next()).await;
    let card = letter.card(evalfleet_proto::Timestamp::now());
    assert_eq!((card.id, card.reason.as_str(), card.replayable), (dead.to_string(), "attempts_spent", true));
    office.close().await;
    for _ in 0..30 {
        // A look gives every letter back, however often: a limit on deliveries would destroy it.
        let office = Office::open(&stage.settings).await.unwrap();
        stage.until(async || office.list(10).await.unwrap().into_iter().next()).await;
        office.close().await;
    }

    let office = Office::open(&stage.settings).await.unwrap();
    let dry = stage.until(async || office.replay(Which::all(), true).await.unwrap().into_iter().next()).await;
    let replay = dry.job.unwrap();
    assert_eq!(replay, dead.derived("replay", 1));
    office.close().await;

    let pending = client.hear_of(replay, std::time::Duration::from_secs(60)).await.unwrap();
    let office = Office::open(&stage.settings).await.unwrap();
    let named = Which::Of(vec![dead.to_string()]);
    let done = stage.until(async || office.replay(named.clone(), false).await.ok()).await;
    assert_eq!(done[0].job, Some(replay));
    assert!(office.list(10).await.unwrap().is_empty(), "a replayed letter is gone");
    office.close().await;

    let job = worker.take().await;
    assert_eq!((job.job.id, job.job.replay_of, job.job.attempt()), (replay, Some(dead), 1));
    worker.answer(job, Status::Passed, None).await;
    assert_eq!(within(pending.wait()).await.unwrap().id, replay);
    client.close().await;
}

async fn a_result_survives_a_restart_of_the_broker(stage: &Stage) {
    let client = Client::connect(&stage.settings).await.unwrap();
    let pending = client.submit(Submission::command(["patient"])).await.unwrap();
    stage.kill_broker().await;
    let late = client.submit(Submission::command(["late"]));
    let answering = async {
        let mut worker = stage.worker().await;
        for _ in 0..2 {
            let job = worker.take().await;
            worker.answer(job, Status::Passed, None).await;
        }
    };
    let (late, ()) = Box::pin(within(async { tokio::join!(late, answering) })).await;
    assert_eq!(within(late.unwrap().wait()).await.unwrap().status, Status::Passed);
    assert_eq!(within(pending.wait()).await.unwrap().status, Status::Passed);
    client.close().await;
}
