//! A clean VM: cloned, loaded, proved, woken, warmed, paused. It waits for one job.
//!
//! Warming is for the time in which nobody waits: it ends where a job does.

use super::active::{Active, Books};
use super::agent::Agent;
use super::chore;
use super::net::Link;
use super::process::Process;
use super::qapi::qmp::Qmp;
use super::qemu::{NET_SOCKET, Role};
use super::template::{Template, hello};
use super::{Error, proof, sparse};
use crate::room;
use evalfleet_proto::guest::{FromGuest, Hello, Run, ToGuest};
use evalfleet_proto::ids::Sha256;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How far the guest's clock may be off after it was set.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// That a VM is clean, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetProof {
    /// What only this clone's agent was told, and said back.
    pub nonce: String,
    /// Pages of its memory that were compared with the template.
    pub pages_checked: u32,
    /// From asking for it until it was paused, less what its warming was put off.
    pub took: Duration,
    /// Whether its warming was cut short.
    pub rushed: bool,
}

/// A VM that has run nothing of anybody's.
#[derive(Debug)]
pub struct Clean {
    process: Process,
    qmp: Qmp,
    agent: Agent,
    net: Link,
    scratch: PathBuf,
    template: Arc<Template>,
    proof: ResetProof,
    books: Books,
}

/// The same before its template is known to be good: what the template's own probe needs.
pub(super) struct Fresh {
    /// The pages that loading touched, where nobody knew them yet.
    pub(super) touched: Option<BTreeSet<u64>>,
    process: Process,
    qmp: Qmp,
    agent: Agent,
    net: Link,
    scratch: PathBuf,
    proof: ResetProof,
    books: Books,
}

impl Clean {
    /// Makes a clean VM in the folder `run_dir`, which becomes its own. Once `wanted` is cancelled a job
    /// waits for it, and it is warmed no further.
    ///
    /// # Errors
    /// When it cannot be made or proved; it is destroyed then.
    pub async fn prepare(
        template: Arc<Template>,
        run_dir: &Path,
        name: &str,
        limit: Duration,
        wanted: CancellationToken,
    ) -> Result<Self, Error> {
        let Fresh { process, qmp, agent, net, scratch, proof, books, touched: _ } =
            Self::from_template(&template, run_dir, name, limit, wanted).await?;
        Ok(Self { process, qmp, agent, net, scratch, template, proof, books })
    }

    pub(super) async fn from_template(
        template: &Template,
        run_dir: &Path,
        name: &str,
        limit: Duration,
        wanted: CancellationToken,
    ) -> Result<Fresh, Error> {
        timeout(limit, Fresh::make(template, run_dir, name, limit, &wanted))
            .await
            .unwrap_or(Err(Error::TimedOut { what: "making a clean VM", seconds: limit.as_secs() }))
    }

    /// The template it is a clone of.
    pub fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Tells why it is no good any more, if it is not: a spare may wait for hours.
    pub fn spoiled(&mut self) -> Option<String> {
        if let Some(how) = self.process.ended() {
            return Some(format!("its QEMU ended while it waited: {how}"));
        }
        if self.process.is_held() {
            return Some("somebody on the host holds its QEMU".to_owned());
        }
        self.template.changed()
    }

    /// Its QEMU.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resolves when its QEMU is dead, however that comes about, and whatever it is by then.
    pub fn until_gone(&mut self) -> tokio::sync::oneshot::Receiver<()> {
        self.process.until_gone()
    }

    /// How it is known to be clean.
    pub fn proof(&self) -> &ResetProof {
        &self.proof
    }

    /// Lets it run, for one job.
    ///
    /// # Errors
    /// When it does not come back from its pause: it is destroyed then.
    pub async fn claim(mut self, limit: Duration) -> Result<Active, Error> {
        let resume = async {
            self.qmp.cont().await?;
            // It slept: its clock stood, and what randomness it drew ahead is no longer fresh.
            greet(&mut self.agent, hello("job".to_owned())).await
        };
        timeout(limit, resume)
            .await
            .unwrap_or(Err(Error::TimedOut { what: "waking a clean VM", seconds: limit.as_secs() }))?;
        let Self { process, qmp, agent, net, scratch, template, proof, books } = self;
        Ok(Active::new(process, qmp, agent, net, scratch, template, proof, books))
    }

    /// Ends it unused.
    ///
    /// # Errors
    /// When its QEMU cannot be killed.
    pub async fn destroy(self) -> Result<(), Error> {
        self.process.kill().await
    }
}

impl Fresh {
    async fn make(
        template: &Template,
        run_dir: &Path,
        name: &str,
        limit: Duration,
        wanted: &CancellationToken,
    ) -> Result<Self, Error> {
        let begun = Instant::now();
        std::fs::create_dir_all(run_dir).map_err(Error::host(format!("making {}", run_dir.display())))?;
        let scratch = run_dir.join("scratch.ext4");
        sparse::copy(&template.scratch(), &scratch).map_err(Error::host("copying the scratch disk"))?;
        let mut process = template.start_clone(&scratch, run_dir).await?;
        let (qmp, mut agent, _) = template.reach(&mut process, Role::Clone, limit).await?;
        let net = Link::attach(&process.socket(NET_SOCKET), &qmp).await?;
        template.load(&qmp, limit).await?;
        let (pages_checked, touched) = prove(process.pid(), template, begun)?;
        qmp.cont().await?;
        let first = hello(name.to_owned());
        let first = Hello { mac: Some(mac(&first.nonce)), ..first };
        greet(&mut agent, first).await?;
        let (mut rushed, mut put_off) = (false, Duration::ZERO);
        for argv in &template.scenario().rewarm {
            // While others need the processors, and until somebody waits for this one.
            let since = Instant::now();
            let _ = wanted.run_until_cancelled(room::found()).await;
            put_off += since.elapsed();
            let run = Run { argv: argv.clone(), cwd: "/".to_owned(), ..Run::default() };
            rushed = !chore::run_unless(&mut agent, run, limit, wanted).await?;
            if rushed {
                break;
            }
        }
        // Once more, so that nothing of the warming is under way in the agent when the guest is paused.
        let nonce = greet(&mut agent, hello(name.to_owned())).await?;
        qmp.stop().await?;
        let books = Books::read(&process, &qmp, &template.ram(), &scratch).await?;
        let proof =
            ResetProof { nonce, pages_checked, took: begun.elapsed().saturating_sub(put_off), rushed };
        Ok(Self { process, qmp, agent, net, scratch, proof, books, touched })
    }

    pub(super) async fn destroy(self) -> Result<(), Error> {
        self.process.kill().await
    }
}

/// A hardware address of the clone's own, out of its nonce: locally administered, for one device. No two
/// VMs share a link, but programs make identities of it.
fn mac(nonce: &str) -> [u8; 6] {
    let mut mac = [0x02, 0, 0, 0, 0, 0];
    let hash = Sha256::of(nonce.as_bytes()).to_string();
    // What is not of this form stays 0: an address that is merely not its own.
    let _ = hex::decode_to_slice(&hash[..10], &mut mac[1..]);
    mac
}

/// Compares the clone's memory with its template's; the sample differs from clone to clone. The first
/// clone of a template tells which pages loading touches.
fn prove(pid: u32, template: &Template, begun: Instant) -> Result<(u32, Option<BTreeSet<u64>>), Error> {
    if !template.machine().strategy.maps_memory() {
        return Ok((0, None));
    }
    let (ram, memory) = (template.ram(), template.machine().memory.bytes());
    let Some(touched) = template.touched() else {
        return proof::touched(pid, &ram, memory).map(|touched| (proof::SAMPLE, Some(touched)));
    };
    let seed = u64::from(pid) << 32 ^ begun.elapsed().as_nanos() as u64;
    proof::check(pid, &ram, memory, seed, touched).map(|checked| (checked, None))
}

/// Wakes the guest and checks that it is this one, that its clock is right and that it draws its own
/// random numbers.
pub(super) async fn greet(agent: &mut Agent, hello: Hello) -> Result<String, Error> {
    let (nonce, clock_ns) = (hello.nonce.clone(), hello.clock_ns);
    agent.voice.say(&ToGuest::Hello(hello)).await?;
    let awake = loop {
        // Whatever else comes first are stale bytes of the template's life.
        if let FromGuest::Hello(awake) = agent.ear.hear().await?
            && awake.nonce == nonce
        {
            break awake;
        }
    };
    if let Some(error) = awake.errors.first() {
        return Err(Error::NotClean(error.clone()));
    }
    if awake.clock_ns.abs_diff(clock_ns) > CLOCK_SLACK.as_nanos() as u64 {
        return Err(Error::NotClean("its clock is wrong after it was set".to_owned()));
    }
    if awake.random.len() != 32 {
        return Err(Error::NotClean("it draws no random numbers".to_owned()));
    }
    Ok(nonce)
}
