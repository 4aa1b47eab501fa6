//! Parts that do what the types of ours forbid: what they break must be found.

use crate::network::Plug;
use crate::runner::Hands;
use evalfleet_broker::{Delivery, Error, Link};
use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::{topology, wire};
use evalfleet_recorder::store::Store;
use evalfleet_worker::job::{Fate, Run as _};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What is wrong with the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    Nothing,
    /// Workers acknowledge a job before its result is confirmed.
    WorkersAckFirst,
    /// Recorders acknowledge a result before it is written.
    RecordersAckFirst,
    /// Workers give the VM of one job to the next.
    WorkersReuseVms,
    /// Workers take a job while they have one.
    WorkersHoard,
    /// Operators acknowledge a dead letter before the job that repeats it is confirmed.
    OperatorsAckFirst,
}

/// How many jobs a hoarder takes.
const HOARD: usize = 2;

/// A worker that lets go of a job before it has answered; or that takes more than one.
pub(crate) async fn worker(link: Arc<Link>, mut hands: Hands, queues: Vec<String>, flaw: Flaw) {
    loop {
        let round = async {
            let session = link.session().await?;
            let mut taken = Vec::new();
            for queue in &queues {
                taken.extend(
                    session.take::<()>(queue, if flaw == Flaw::WorkersHoard { HOARD } else { 1 }).await?,
                );
                if !taken.is_empty() {
                    break;
                }
            }
            if taken.is_empty() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            for delivery in taken {
                evaluate(&link, &mut hands, delivery, flaw).await?;
            }
            Ok::<(), Error>(())
        };
        if round.await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn evaluate(link: &Link, hands: &mut Hands, delivery: Delivery<()>, flaw: Flaw) -> Result<(), Error> {
    let job = wire::decode_job(&delivery.body).map_err(|_| Error::Broken(String::new()))?;
    let inbox = delivery.inbox().map(str::to_owned);
    let mut delivery = Some(delivery);
    if flaw == Flaw::WorkersAckFirst
        && let Some(delivery) = delivery.take()
    {
        delivery.settle(&()).await?;
    }
    let (never, now) = (CancellationToken::new(), Timestamp::now());
    if let Fate::Done(evaluation) = hands.run(&job, now, &never, &mut |_| ()).await {
        let envelope = Envelope::new(MessageType::Result, job.id, now).for_inbox(inbox.as_deref());
        let (key, body) = (topology::job_key(job.id), wire::encode(&*evaluation));
        link.publish(topology::RESULTS, &key, &envelope, &body).await?;
        if let Some(delivery) = delivery.take() {
            delivery.settle(&()).await?;
        }
    }
    Ok(())
}

/// A recorder that lets go of a result before it is written.
pub(crate) async fn recorder(link: Arc<Link>, store: Store) {
    loop {
        let round = async {
            let session = link.session().await?;
            let mut results = session.consume::<()>(topology::RESULTS_QUEUE, 1).await?;
            while let Ok(delivery) = results.next().await {
                let Ok(evaluation) = wire::decode::<Evaluation>(&delivery.body) else { continue };
                delivery.settle(&()).await?;
                let _ = store.record(&[&evaluation]).await;
            }
            link.forget(&session).await;
            Ok::<(), Error>(())
        };
        if round.await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// An operator that lets go of letters before anything repeats them.
pub(crate) async fn operator(plug: &Plug, options: &evalfleet_broker::Options) -> Result<(), Error> {
    let session = evalfleet_broker::Session::connect_over(plug, options).await?;
    for letter in session.take::<()>(topology::DEAD_QUEUE, 8).await? {
        letter.settle(&()).await?;
    }
    Ok(())
}
