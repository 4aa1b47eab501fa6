//! From a request to verdicts: the order of things, and all that waits.

use super::commit::{self, Committed};
use super::compare::{compare, unsound};
use super::error::Error;
use super::looks::{Looks, Seen};
use super::order::{Cargo, Errand, Look};
use super::prefix::Prefixes;
use super::report::{BaseOf, ChangeOf, Ending, SafetyResult, Subject, SuiteOf, Verdict};
use super::source::{Applied, Base, Change, Repository};
use super::tree::{Tree, contents};
use super::violation::{VIOLATIONS_MAX, Violation};
use super::{CodeChange, behaviour};
use crate::client::Client;
use crate::verdicts;
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::{Artifact, Evaluation};
use evalfleet_proto::ids::{ImageRef, JobId, Sha256};
use evalfleet_proto::status::{Cause, Exit};
use evalfleet_service::settings::Settings;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Changes that one request may bring.
pub const CANDIDATES_MAX: usize = 100;

/// A repository, a base, and changes to it.
#[derive(Debug, Clone)]
pub struct Request {
    /// A repository's folder, or a bundle.
    pub repository: PathBuf,
    /// The revision that the changes stand on.
    pub base: String,
    /// The suite; `default` when missing.
    pub suite: Option<String>,
    /// The image, where the suite's is not wanted.
    pub image: Option<ImageRef>,
    /// The changes, each for itself.
    pub candidates: Vec<Candidate>,
}

/// One change among others to the same base.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What it is called.
    pub name: String,
    /// The change.
    pub change: Change,
}

/// What one candidate came to.
#[derive(Debug)]
pub struct Evaluated {
    /// The verdict.
    pub result: SafetyResult,
    /// What there is to commit, where it is safe.
    safe: Option<(Candidate, Applied)>,
}

/// A request that was evaluated; its room on the disk goes with it.
#[derive(Debug)]
pub struct Outcome {
    /// Its candidates, in their order.
    pub evaluated: Vec<Evaluated>,
    repository: Repository,
    base: Base,
}

/// A change that must not be made, or that nobody could say so of.
#[derive(Debug, thiserror::Error)]
#[error("{verdict}: {}", .why.as_deref().unwrap_or("the change must not be made"), verdict = .verdict.as_str())]
pub struct UnsafeModification {
    /// `unsafe` or `undecided`.
    pub verdict: Verdict,
    /// Everything that speaks against it.
    pub violations: Vec<Violation>,
    /// The whole verdict, where it came to one.
    pub result: Option<Box<SafetyResult>>,
    /// Why it came to none.
    pub why: Option<String>,
}

/// Evaluates changes, over a fleet.
#[derive(Debug)]
pub struct Changes<'c> {
    client: &'c Client,
    prefixes: Prefixes,
    image: ImageRef,
    patience: std::time::Duration,
}

/// Base and image of one request, with what the verdicts say of them.
struct Ground<'g> {
    base: &'g Base,
    image: ImageRef,
    suite: SuiteOf,
    repository: &'g Repository,
    started: Timestamp,
}

impl<'c> Changes<'c> {
    /// An evaluator that submits through `client`.
    pub fn new(client: &'c Client, settings: &Settings) -> Self {
        Self {
            client,
            prefixes: Prefixes::new(&settings.state_dir()),
            image: settings.client.image.clone(),
            patience: settings.client.patience,
        }
    }

    /// Evaluates one change: `Ok` exactly when it may be made.
    ///
    /// # Errors
    /// When something speaks against the change, or nobody could find out.
    pub async fn test(&self, change: &CodeChange) -> Result<SafetyResult, UnsafeModification> {
        let candidate = Candidate { name: "change".to_owned(), change: change.change.clone() };
        let request = Request {
            repository: change.repository.clone(),
            base: change.base.clone().unwrap_or_else(|| "HEAD".to_owned()),
            suite: change.suite.clone(),
            image: None,
            candidates: vec![candidate],
        };
        let undecided = |why: String| UnsafeModification {
            verdict: Verdict::Undecided,
            violations: Vec::new(),
            result: None,
            why: Some(why),
        };
        let outcome = self.evaluate(&request, &|_| ()).await.map_err(|error| undecided(error.to_string()))?;
        let Some(evaluated) = outcome.evaluated.into_iter().next() else {
            return Err(undecided("there was no change".to_owned()));
        };
        let result = evaluated.result;
        if result.is_safe() {
            return Ok(result);
        }
        let why = result.evaluation.evidence.first().map(|evidence| evidence.message.clone());
        Err(UnsafeModification {
            verdict: result.verdict,
            violations: result.violations.clone(),
            result: Some(Box::new(result)),
            why,
        })
    }

    /// Evaluates every candidate of a request, and records each verdict. `tell` hears what is being done.
    ///
    /// # Errors
    /// When the repository or its base is at fault, or the fleet cannot be reached. What is wrong with one
    /// candidate is its own verdict.
    pub async fn evaluate(&self, request: &Request, tell: &(dyn Fn(&str) + Sync)) -> Result<Outcome, Error> {
        let started = Timestamp::now();
        let repository = Repository::open(&request.repository).await?;
        let base = repository.base(&request.base, request.suite.as_deref()).await?;
        let image = self.image_of(&base, request)?;
        let digest = Sha256::of(&serde_json::to_vec(&base.safety).unwrap_or_default());
        let suite = SuiteOf { name: base.safety.name.clone(), declared: base.safety.declared, digest };
        let ground = Ground { base: &base, image, suite, repository: &repository, started };
        // What does not apply needs no base.
        let mut applied = Vec::new();
        for candidate in &request.candidates {
            applied.push((candidate, repository.apply(&base, &candidate.change).await));
        }
        let runs =
            applied.iter().any(|(_, applied)| applied.as_ref().is_ok_and(|it| it.tree_id != base.tree_id));
        let seen = if runs { Some(self.base(&ground, tell).await?) } else { None };
        let jobs = request.candidates.len();
        let all = applied.into_iter().map(|(candidate, applied)| {
            self.candidate(&ground, seen.as_ref(), candidate, applied, jobs, tell)
        });
        let evaluated = futures::future::try_join_all(all).await?;
        Ok(Outcome { evaluated, repository, base })
    }

    fn image_of(&self, base: &Base, request: &Request) -> Result<ImageRef, Error> {
        if let Some(image) = &request.image {
            return Ok(image.clone());
        }
        let Some(named) = &base.safety.image else { return Ok(self.image.clone()) };
        let wrong = |error| super::suite::Error::Invalid(format!("image {named:?}: {error}"));
        Ok(named.parse::<ImageRef>().map_err(wrong)?)
    }

    /// Looks at the base, unless that was done before.
    async fn base(&self, ground: &Ground<'_>, tell: &(dyn Fn(&str) + Sync)) -> Result<(Looks, bool), Error> {
        let base = ground.base;
        let judge = super::order::judge_digest();
        let key = Prefixes::key(&base.tree_id, &base.safety, &ground.image, &judge);
        let kept = match self.prefixes.get(&key) {
            Some(looks) if self.is_whole(&looks).await => Some(looks),
            _ => None,
        };
        let (looks, reused) = match kept {
            Some(looks) => (looks, true),
            None => {
                tell(&format!("the base {} is built and tested", short(&base.commit)));
                (self.looks(ground, &base.tree, None, "base", 1).await?, false)
            }
        };
        if let Some(fault) = looks.both().into_iter().find_map(|seen| Some((seen.look, seen.fault()?))) {
            return Err(Error::Machines { look: fault.0.as_str(), tree: "base", why: fault.1 });
        }
        if let Some(why) = unsound(&base.safety, &looks) {
            return Err(Error::Base { commit: base.commit.clone(), why });
        }
        if !reused {
            self.prefixes.put(&key, &looks);
        }
        Ok((looks, reused))
    }

    /// Whether what was built is still in the blob store.
    async fn is_whole(&self, looks: &Looks) -> bool {
        match looks.prefix {
            None => true,
            Some((key, _)) => match self.client.blobs().await {
                Ok(blobs) => blobs.get(key).await.is_ok(),
                Err(_) => false,
            },
        }
    }

    async fn candidate(
        &self,
        ground: &Ground<'_>,
        seen: Option<&(Looks, bool)>,
        candidate: &Candidate,
        applied: Result<Applied, super::source::Error>,
        jobs: usize,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Evaluated, Error> {
        let mut subject = ground.subject(candidate);
        let applied = match applied {
            Ok(applied) => applied,
            Err(error) => {
                let ending = Ending::Not(Cause::Harness, error.to_string());
                return Ok(Evaluated { result: subject.result(ending, None, &[]), safe: None });
            }
        };
        subject.change.commit.clone_from(&applied.commit);
        subject.change.size = applied.size;
        if applied.tree_id != ground.base.tree_id {
            subject.change.tree = Some(applied.tree_id.clone());
        }
        let mut changes = Vec::new();
        let mut base = seen.cloned();
        let ending = match &mut base {
            // What applies nowhere is not run.
            None => Ending::Judged(applied.violations.clone(), Vec::new()),
            Some(_) if applied.tree_id == ground.base.tree_id => {
                Ending::Judged(applied.violations.clone(), Vec::new())
            }
            Some((looks, _)) => {
                tell(&format!("{} is built and tested", candidate.name));
                self.judge(ground, looks, &applied, &mut changes, jobs).await?
            }
        };
        let base = base.as_ref().map(|(looks, reused)| (looks, *reused));
        let mut result = subject.result(ending, base, &changes.iter().collect::<Vec<_>>());
        self.record(&mut result).await?;
        let safe = result.safe.then(|| (candidate.clone(), applied));
        Ok(Evaluated { result, safe })
    }

    /// Looks at a change and holds it against its base. An excess is measured again before it is believed.
    async fn judge(
        &self,
        ground: &Ground<'_>,
        base: &mut Looks,
        applied: &Applied,
        changes: &mut Vec<Looks>,
        jobs: usize,
    ) -> Result<Ending, Error> {
        let safety = &ground.base.safety;
        changes.push(self.looks(ground, &applied.judged, base.prefix, "change", jobs).await?);
        let template = |looks: &Looks| looks.judged.evaluation.provenance.template.clone();
        if template(base) != template(&changes[0]) && changes[0].judged.answer.is_some() {
            // An image was built anew, or another worker has another: only like is held against like.
            *base = self.looks(ground, &ground.base.tree, None, "base", jobs).await?;
        }
        let mut bases = vec![base.clone()];
        let (mut found, mut checks) = self.compare(ground, &bases, changes)?;
        let measured = |found: &[Violation]| {
            found.iter().any(|it| it.rule == "budget.time" || it.rule == "budget.memory")
        };
        if measured(&found) && found.iter().all(Violation::is_budget) && applied.violations.is_empty() {
            let (again, change) = tokio::join!(
                self.looks(ground, &ground.base.tree, base.prefix, "base", jobs),
                self.looks(ground, &applied.judged, base.prefix, "change", jobs)
            );
            bases.push(again?);
            changes.push(change?);
            (found, checks) = self.compare(ground, &bases, changes)?;
        }
        let fault = changes.iter().flat_map(Looks::both).find_map(|seen| Some((seen.look, seen.fault()?)));
        if let Some((look, why)) = fault {
            let error = Error::Machines { look: look.as_str(), tree: "change", why };
            return Ok(Ending::Not(Cause::Infrastructure, error.to_string()));
        }
        let mut all = applied.violations.clone();
        all.extend(found);
        all.retain(|violation| !safety.policy.waive.contains(&violation.rule));
        all.truncate(VIOLATIONS_MAX);
        Ok(Ending::Judged(all, checks))
    }

    fn compare(
        &self,
        ground: &Ground<'_>,
        bases: &[Looks],
        changes: &[Looks],
    ) -> Result<(Vec<Violation>, Vec<super::compare::Check>), Error> {
        let (bases, changes): (Vec<_>, Vec<_>) = (bases.iter().collect(), changes.iter().collect());
        Ok(compare(&ground.base.safety, &bases, &changes)?)
    }

    /// Both looks at one tree, side by side.
    async fn looks(
        &self,
        ground: &Ground<'_>,
        tree: &Tree,
        prefix: Option<(Sha256, u64)>,
        role: &'static str,
        jobs: usize,
    ) -> Result<Looks, Error> {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let packed = tree.pack(&ground.repository.git, &ground.base.tree, now).await?;
        let length = packed.len() as u64;
        let cargo = Cargo { tree: (self.client.blobs().await?.put(packed).await?, length), prefix };
        let look = async |look: Look| {
            let labels = [("change", role.to_owned()), ("base", ground.base.commit.clone())];
            let errand = Errand {
                safety: &ground.base.safety,
                tree,
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
        judged.laid = kept(ground, tree).await?;
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
        let output = self.whole_output(&evaluation).await?;
        Ok(Seen::new(errand.look, evaluation, &output, &nonce))
    }

    async fn whole_output(&self, evaluation: &Evaluation) -> Result<Vec<u8>, Error> {
        match (evaluation.stdout.truncated, evaluation.stdout.sha256) {
            (true, Some(key)) => Ok(self.client.blobs().await?.get(key).await?),
            _ => Ok(evaluation.stdout.text.clone().into_bytes()),
        }
    }

    /// Sends a verdict to be recorded: its evaluation, and all of it as an artifact of that.
    async fn record(&self, result: &mut SafetyResult) -> Result<(), Error> {
        let document = serde_json::to_vec_pretty(&*result).unwrap_or_default();
        let bytes = document.len() as u64;
        let sha256 = Some(self.client.blobs().await?.put(document).await?);
        result.evaluation.artifacts.push(Artifact {
            path: "/verdict.json".to_owned(),
            bytes,
            sha256,
            error: None,
        });
        verdicts::publish(self.client, &result.evaluation).await?;
        Ok(())
    }
}

impl Outcome {
    /// Commits the one candidate, which must be safe.
    ///
    /// # Errors
    /// When it is not safe, the base moved, or the working tree stands in its way. Then nothing was changed.
    pub async fn commit(&self, message: &str) -> Result<Committed, Error> {
        let [evaluated] = self.evaluated.as_slice() else {
            return Err(Error::NotCommitted("one change at a time can be committed".to_owned()));
        };
        let Some((candidate, applied)) = &evaluated.safe else {
            return Err(Error::NotCommitted("it is not safe".to_owned()));
        };
        let id = evaluated.result.evaluation.id;
        commit::commit(&self.repository, &self.base, applied, &candidate.change, message, id).await
    }

    /// The exit code of all verdicts together: the first that is not safe, the gravest kind first.
    pub fn exit(&self) -> Exit {
        let exits: Vec<Exit> = self.evaluated.iter().map(|evaluated| evaluated.result.exit()).collect();
        let order = [Exit::Defect, Exit::Infrastructure, Exit::Harness, Exit::Subject, Exit::Budget];
        order.into_iter().find(|exit| exits.contains(exit)).unwrap_or(Exit::Passed)
    }
}

impl Ground<'_> {
    fn subject(&self, candidate: &Candidate) -> Subject {
        let patch = match &candidate.change {
            Change::Patch(patch) => Some(Sha256::of(patch)),
            Change::Revision(_) => None,
        };
        Subject {
            id: JobId::fresh(),
            base: BaseOf { commit: self.base.commit.clone(), tree: self.base.tree_id.clone() },
            change: ChangeOf { name: candidate.name.clone(), patch, ..ChangeOf::default() },
            suite: self.suite.clone(),
            submitted: self.started,
        }
    }
}

/// The files of a tree that must stay as they are while it runs, with their contents' hashes.
async fn kept(ground: &Ground<'_>, tree: &Tree) -> Result<BTreeMap<String, Sha256>, Error> {
    let safety = &ground.base.safety;
    let (tests, protected, allowed) = (safety.tests()?, safety.protected()?, safety.allowed()?);
    let is_kept = |name: &str| (tests.is_match(name) || protected.is_match(name)) && !allowed.is_match(name);
    let files = tree.0.iter().filter(|(_, entry)| !entry.is_link() && !entry.is_submodule());
    let files = files.filter_map(|(path, entry)| Some((std::str::from_utf8(path).ok()?, entry)));
    let files: Vec<_> = files.filter(|(name, _)| is_kept(name)).collect();
    let contents = contents(&ground.repository.git, files.iter().map(|(_, entry)| *entry)).await?;
    let hashed = files
        .iter()
        .filter_map(|(name, entry)| Some(((*name).to_owned(), Sha256::of(contents.get(&entry.oid)?))));
    Ok(hashed.collect())
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
