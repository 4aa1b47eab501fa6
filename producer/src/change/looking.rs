//! Looking at trees: what of a base is known, what is asked of the fleet, and all that waits for its answers.

use super::behaviour;
use super::compare::unsound;
use super::error::Error;
use super::evaluate::{Changes, Contender, Ground};
use super::looks::{Looks, Seen};
use super::order::{Cargo, Errand, Look, Packed};
use super::program::{Compiled, Program, compiler};
use super::suite::{Runner, Safety};
use super::tree::{Contents, Tree};
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::{ImageRef, Sha256};
use evalfleet_proto::submission::Submission;
use std::collections::BTreeMap;

impl Changes<'_> {
    /// What was seen of the base for an earlier change, if it was good and is still there.
    pub(super) async fn known(&self, ground: &Ground<'_>) -> Option<Looks> {
        let looks: Looks = self.prefixes.get(&ground.key())?;
        self.is_whole(&looks).await.then_some(looks)
    }

    /// Looks at the base, and keeps what was seen.
    pub(super) async fn base(
        &self,
        ground: &Ground<'_>,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Looks, Error> {
        let base = ground.base;
        tell(&format!("the base {} is built and tested", short(&base.commit)));
        let looks = self.looks(ground, &base.tree, None, "base", 1).await?;
        if let Some(fault) = looks.both().into_iter().find_map(|seen| Some((seen.look, seen.fault()?))) {
            return Err(Error::Machines { look: fault.0.as_str(), tree: "base", why: fault.1 });
        }
        if let Some(why) = unsound(&base.safety, &looks) {
            return Err(Error::Base { commit: base.commit.clone(), why });
        }
        self.prefixes.put(&ground.key(), &looks);
        Ok(looks)
    }

    /// Looks at the changes beside their base, where none of them begins with what the base built.
    pub(super) async fn early(
        &self,
        ground: &Ground<'_>,
        contenders: &[Contender<'_>],
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Vec<Option<Looks>>, Error> {
        if !ground.base.safety.suite.prefix.is_empty() {
            return Ok(contenders.iter().map(|_| None).collect());
        }
        // Those of the base stand before them in the queue.
        let jobs = contenders.len() + 1;
        let looks = contenders.iter().map(|contender| async move {
            let Some(applied) = contender.runs(ground) else { return Ok(None) };
            tell(&format!("{} is built and tested", contender.candidate.name));
            self.looks(ground, &applied.judged, None, "change", jobs).await.map(Some)
        });
        futures::future::try_join_all(looks).await
    }

    /// Whether what was built is still in the blob store.
    async fn is_whole(&self, looks: &Looks) -> bool {
        match looks.prefix {
            None => true,
            Some((key, bytes)) => match self.client.blobs().await {
                Ok(blobs) => {
                    let entry = blobs.entry(key).await.ok().flatten();
                    entry.is_some_and(|entry| entry.bytes == bytes)
                }
                Err(_) => false,
            },
        }
    }

    /// Both looks at one tree, side by side.
    pub(super) async fn looks(
        &self,
        ground: &Ground<'_>,
        tree: &Tree,
        prefix: Option<(Sha256, u64)>,
        role: &'static str,
        jobs: usize,
    ) -> Result<Looks, Error> {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let contents = tree.contents(&ground.repository.git).await?;
        let tree_packed = match tree.laid(&contents, &ground.base.tree, now) {
            Some(files) => Packed::Laid(files),
            None => {
                let packed = tree.pack(&contents, &ground.base.tree, now)?;
                let length = packed.len() as u64;
                Packed::Tar((self.client.blobs().await?.put(packed).await?, length))
            }
        };
        let cargo = Cargo { tree: tree_packed, prefix };
        let look = async |look: Look| {
            let labels = [("change", role.to_owned()), ("base", ground.base.commit.clone())];
            let errand = Errand {
                safety: &ground.base.safety,
                tree,
                program: &ground.program,
                cargo: &cargo,
                look,
                keeps: role == "base" && look == Look::Judged,
                labels: labels
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect::<BTreeMap<_, _>>(),
            };
            self.look(&errand, &ground.image, jobs).await
        };
        let (judged, watched) = tokio::join!(look(Look::Judged), look(Look::Watched));
        let (mut judged, mut watched) = (judged?, watched?);
        judged.laid = kept(&ground.base.safety, tree, &contents)?;
        watched.laid.clone_from(&judged.laid);
        let kept = judged.evaluation.artifacts.first();
        let prefix = kept.and_then(|artifact| Some((artifact.sha256?, artifact.bytes)));
        Ok(Looks { judged, watched, prefix })
    }

    async fn look(&self, errand: &Errand<'_>, image: &ImageRef, jobs: usize) -> Result<Seen, Error> {
        let (mut job, nonce) = errand.job(image).map_err(crate::client::Error::from)?;
        job.expected_effects = behaviour::expected(errand.safety);
        // Two for every candidate may stand before it in the queue.
        let turns = u32::try_from(2 * jobs + 2).unwrap_or(u32::MAX);
        let patience = job.limits.wall.saturating_mul(turns).saturating_add(self.patience);
        let evaluation = self.client.submit_job(&job).await?.patience(patience).wait().await?;
        tracing::debug!(look = errand.look.as_str(), timings = ?evaluation.timings, "a look was made");
        let output = self.whole_output(&evaluation).await?;
        let is_foreign = errand.program.is_foreign(evaluation.provenance.image.as_deref());
        let seen = Seen::new(errand.look, evaluation, &output, &nonce);
        if seen.answer.is_none() && is_foreign {
            // An image was built anew, and its Python may read nothing of what another's made of the judge.
            self.prefixes.forget(&errand.program.key(image));
            let plain = errand.program.plain();
            return Box::pin(self.look(&Errand { program: &plain, ..errand.clone() }, image, jobs)).await;
        }
        Ok(seen)
    }

    /// The judge for this runner, compiled where an earlier request had that done.
    pub(super) fn program(&self, runner: Runner, image: &ImageRef) -> Program {
        let plain = Program::new(runner);
        match self.prefixes.get::<Compiled>(&plain.key(image)) {
            Some(compiled) => plain.compiled(&compiled),
            None => plain,
        }
    }

    /// Has the judge compiled for those that come after, in a clean VM. That this fails is no matter of any verdict.
    pub(super) async fn compile(&self, ground: &Ground<'_>) {
        if let Err(error) = self.try_compile(ground).await {
            tracing::debug!(%error, "the judge is not compiled");
        }
    }

    async fn try_compile(&self, ground: &Ground<'_>) -> Result<(), Error> {
        let mut submission = Submission::command(compiler());
        submission.image = Some(ground.image.clone());
        submission.stdin = Some(ground.program.source().to_owned());
        submission.labels.insert("change".to_owned(), "judge".to_owned());
        let job = self.client.prepare(submission)?;
        let evaluation = self.client.submit_job(&job).await?.patience(self.patience).wait().await?;
        let output = self.whole_output(&evaluation).await?;
        if let (None, Some(image), Ok(code)) =
            (evaluation.cause, evaluation.provenance.image, String::from_utf8(output))
        {
            self.prefixes.put(&ground.program.key(&ground.image), &Compiled { image, code });
        }
        Ok(())
    }

    async fn whole_output(&self, evaluation: &Evaluation) -> Result<Vec<u8>, Error> {
        match (evaluation.stdout.truncated, evaluation.stdout.sha256) {
            (true, Some(key)) => Ok(self.client.blobs().await?.get(key).await?),
            _ => Ok(evaluation.stdout.text.clone().into_bytes()),
        }
    }
}

/// The files of a tree that must stay as they are while it runs, with their contents' hashes.
fn kept(safety: &Safety, tree: &Tree, contents: &Contents) -> Result<BTreeMap<String, Sha256>, Error> {
    let (tests, protected, allowed) = (safety.tests()?, safety.protected()?, safety.allowed()?);
    let is_kept = |name: &str| (tests.is_match(name) || protected.is_match(name)) && !allowed.is_match(name);
    let files = tree.0.iter().filter(|(_, entry)| !entry.is_link() && !entry.is_submodule());
    let files = files.filter_map(|(path, entry)| Some((std::str::from_utf8(path).ok()?, entry)));
    let files = files.filter(|(name, _)| is_kept(name));
    let hashed =
        files.filter_map(|(name, entry)| Some((name.to_owned(), Sha256::of(contents.get(&entry.oid)?))));
    Ok(hashed.collect())
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
