//! From a request to verdicts: the order of things, and all that waits.

use super::CodeChange;
use super::budget::is_measured;
use super::commit::{self, Committed};
use super::compare::{compare, unsound};
use super::error::Error;
use super::looks::Looks;
use super::prefix::Prefixes;
use super::program::{self, Program};
use super::report::{BaseOf, ChangeOf, Ending, SafetyResult, Subject, SuiteOf, Verdict};
use super::source::{self, Applied, Base, Change, Repository};
use super::violation::{VIOLATIONS_MAX, Violation};
use crate::client::Client;
use crate::verdicts;
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Artifact;
use evalfleet_proto::ids::{ImageRef, JobId, Sha256};
use evalfleet_proto::status::{Cause, Exit};
use evalfleet_service::settings::Settings;
use futures::StreamExt as _;
use std::path::PathBuf;
use std::time::Instant;

/// Changes that one request may bring.
pub const CANDIDATES_MAX: usize = 100;
/// Changes that are applied at one moment, each by programs of its own.
const APPLIED_AT_ONCE: usize = 4;

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
    pub(super) client: &'c Client,
    pub(super) prefixes: Prefixes,
    image: ImageRef,
    pub(super) patience: std::time::Duration,
}

/// Base and image of one request, with what the verdicts say of them.
pub(super) struct Ground<'g> {
    pub(super) base: &'g Base,
    pub(super) image: ImageRef,
    suite: SuiteOf,
    pub(super) program: Program,
    pub(super) repository: &'g Repository,
    started: Timestamp,
}

/// A candidate on its way to its verdict.
pub(super) struct Contender<'r> {
    pub(super) candidate: &'r Candidate,
    applied: Result<Applied, source::Error>,
    /// What was seen of it beside the base.
    looks: Option<Looks>,
}

impl Contender<'_> {
    /// The change, if it is run: it applies, and makes another tree than the base's.
    pub(super) fn runs(&self, ground: &Ground<'_>) -> Option<&Applied> {
        self.applied.as_ref().ok().filter(|applied| applied.tree_id != ground.base.tree_id)
    }
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
        let (started, begun) = (Timestamp::now(), Instant::now());
        let repository = Repository::open(&request.repository).await?;
        let base = repository.base(&request.base, request.suite.as_deref()).await?;
        let image = self.image_of(&base, request)?;
        let digest = Sha256::of(&serde_json::to_vec(&base.safety).unwrap_or_default());
        let suite = SuiteOf { name: base.safety.name.clone(), declared: base.safety.declared, digest };
        let program = self.program(base.safety.runner, &image);
        let ground = Ground { base: &base, image, suite, program, repository: &repository, started };
        // What does not apply needs no base.
        let apply = futures::stream::iter(&request.candidates).map(async |candidate| Contender {
            candidate,
            applied: ground.repository.apply(ground.base, &candidate.change).await,
            looks: None,
        });
        let contenders: Vec<Contender<'_>> = apply.buffered(APPLIED_AT_ONCE).collect().await;
        tracing::debug!(since = ?begun.elapsed(), "the changes are applied");
        let runs = contenders.iter().any(|contender| contender.runs(&ground).is_some());
        let (evaluated, ()) = tokio::join!(self.candidates(&ground, contenders, runs, tell), async {
            if runs && !ground.program.is_compiled() {
                self.compile(&ground).await;
            }
        });
        let evaluated = evaluated?;
        tracing::debug!(since = ?begun.elapsed(), "the changes are evaluated");
        Ok(Outcome { evaluated, repository, base })
    }

    /// What each candidate comes to; `runs` says whether any is run.
    async fn candidates(
        &self,
        ground: &Ground<'_>,
        mut contenders: Vec<Contender<'_>>,
        runs: bool,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Vec<Evaluated>, Error> {
        let seen = match if runs { self.known(ground).await } else { None } {
            Some(looks) => Some((looks, true)),
            None if runs => {
                // What needs nothing of the base's does not wait for it.
                let (base, early) = (self.base(ground, tell), self.early(ground, &contenders, tell));
                let (base, early) = Box::pin(async { tokio::try_join!(base, early) }).await?;
                contenders.iter_mut().zip(early).for_each(|(contender, looks)| contender.looks = looks);
                Some((base, false))
            }
            None => None,
        };
        let jobs = contenders.len();
        let all = contenders
            .into_iter()
            .map(|contender| self.contend(ground, seen.as_ref(), contender, jobs, tell));
        futures::future::try_join_all(all).await
    }

    fn image_of(&self, base: &Base, request: &Request) -> Result<ImageRef, Error> {
        if let Some(image) = &request.image {
            return Ok(image.clone());
        }
        let Some(named) = &base.safety.image else { return Ok(self.image.clone()) };
        let wrong = |error| super::suite::Error::Invalid(format!("image {named:?}: {error}"));
        Ok(named.parse::<ImageRef>().map_err(wrong)?)
    }

    /// What one candidate comes to, held against what was `seen` of the base.
    async fn contend(
        &self,
        ground: &Ground<'_>,
        seen: Option<&(Looks, bool)>,
        contender: Contender<'_>,
        jobs: usize,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Evaluated, Error> {
        let Contender { candidate, applied, looks: early } = contender;
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
                changes.push(match early {
                    Some(looks) => looks,
                    None => {
                        tell(&format!("{} is built and tested", candidate.name));
                        self.looks(ground, &applied.judged, looks.prefix, "change", jobs).await?
                    }
                });
                Box::pin(self.judge(ground, looks, &applied, &mut changes, jobs)).await?
            }
        };
        let base = base.as_ref().map(|(looks, reused)| (looks, *reused));
        let mut result = subject.result(ending, base, &changes.iter().collect::<Vec<_>>());
        self.record(&mut result).await?;
        let safe = result.safe.then(|| (candidate.clone(), applied));
        Ok(Evaluated { result, safe })
    }

    /// Holds a change that was looked at against its base. An excess is measured again before it is believed.
    async fn judge(
        &self,
        ground: &Ground<'_>,
        base: &mut Looks,
        applied: &Applied,
        changes: &mut Vec<Looks>,
        jobs: usize,
    ) -> Result<Ending, Error> {
        let safety = &ground.base.safety;
        let template = |looks: &Looks| looks.judged.evaluation.provenance.template.clone();
        if template(base) != template(&changes[0]) && changes[0].judged.answer.is_some() {
            // An image was built anew, or another worker has another: only like is held against like.
            *base = self.looks(ground, &ground.base.tree, None, "base", jobs).await?;
            if unsound(&ground.base.safety, base).is_none() {
                // Those that come after are held against this one.
                self.prefixes.put(&ground.key(), base);
            }
        }
        let mut bases = vec![base.clone()];
        let (mut found, mut checks) = self.compare(ground, &bases, changes)?;
        if found.iter().any(is_measured)
            && found.iter().all(Violation::is_budget)
            && applied.violations.is_empty()
        {
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
    /// What looks at the base are kept under.
    pub(super) fn key(&self) -> Sha256 {
        let judge = program::judge_digest();
        Prefixes::key(&self.base.tree_id, &self.base.safety, &self.image, &judge)
    }

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
