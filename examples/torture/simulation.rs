//! One seeded run of everything at once, on a paused clock: a few overlapping runs over one store,
//! while workers die and join, submitters die and repeat, functions fail and are fixed, runs are
//! cancelled and redriven, and the backend does everything that [`Chaos`] can.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::queue::{QueueOptions, Queues};
use catchment::testing::faults::{Chaos, Rates};
use catchment::{
    Backend, BoxError, Combine, Context, Deployment, Error, Items, OnFailure, Outcome, Pipeline,
    Run, Stage, permanent,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Time on the paused clock after which a run that has not ended is stuck.
const STUCK: Duration = Duration::from_secs(48 * 60 * 60);

/// The outcome of one seed, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Faults by kind.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Runs that were submitted.
    pub(crate) runs: u64,
    /// Of those: cancelled before they were done.
    pub(crate) cancelled: u64,
    /// Of those: with another result than that of the same computation in a loop.
    pub(crate) wrong: u64,
    /// Of those: without an end.
    pub(crate) stuck: u64,
    /// The runs that were wrong or stuck, with their seeds.
    pub(crate) problems: Vec<String>,
    /// Time on the paused clock.
    pub(crate) simulated: Duration,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.runs += other.runs;
        self.cancelled += other.cancelled;
        self.wrong += other.wrong;
        self.stuck += other.stuck;
        self.problems.extend(other.problems);
        self.simulated += other.simulated;
    }
}

/// Runs a future on a paused clock and one thread, so that the same seed is the same run.
pub(crate) fn on_a_paused_clock<T>(seed: u64, work: impl Future<Output = T>) -> T {
    // Backoffs are drawn from the thread's generator.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => panic!("no runtime: {error}"),
    }
}

/// Runs a seed.
pub(crate) fn simulate(seed: u64) -> Report {
    on_a_paused_clock(seed, World::new(seed).play())
}

/// An associative operator that is not commutative: what is lost, doubled or out of order shows.
struct Concat;

impl Combine for Concat {
    type Input = String;
    type Output = String;

    fn identity(&self) -> String {
        String::new()
    }

    async fn fold(&self, items: Items<'_, String>, _: &Context) -> Result<String, BoxError> {
        Ok(items.collect())
    }

    async fn combine(&self, group: Vec<String>, _: &Context) -> Result<String, BoxError> {
        Ok(group.concat())
    }
}

/// The input.
#[derive(Clone, Copy, Debug)]
struct Plan {
    length: u64,
    stream: bool,
    cancelled_after: Option<Duration>,
}

/// Everything that a seed decides before time begins.
struct World {
    seed: u64,
    random: fastrand::Rng,
    chaos: Chaos,
    queues: Arc<MemoryQueues>,
    scratchpad: Arc<MemoryScratchpad>,
    maps: u32,
    attempts: u32,
    fan_in: u32,
    packet_size: u32,
    /// For each run the item that cannot be processed until the function is fixed.
    poison: Option<u64>,
    skips: bool,
    mended: Arc<AtomicBool>,
    plans: Vec<Plan>,
    deaths: Arc<std::sync::Mutex<BTreeMap<&'static str, u64>>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let plans = (0..random.usize(1..=3)).map(|_| Plan {
            length: random.u64(0..40),
            stream: random.bool(),
            cancelled_after: (random.u32(0..10) == 0)
                .then(|| Duration::from_millis(random.u64(0..200_000))),
        });
        let plans = plans.collect();
        Self {
            seed,
            chaos: Chaos::new(random.u64(..), Rates::default()),
            queues: Arc::new(MemoryQueues::new()),
            scratchpad: Arc::new(MemoryScratchpad::new()),
            maps: random.u32(1..=2),
            attempts: random.u32(3..=8),
            fan_in: random.u32(2..=5),
            packet_size: random.u32(1..=4),
            poison: random.bool().then(|| random.u64(0..40)),
            skips: random.u32(0..4) == 0,
            mended: Arc::default(),
            plans,
            deaths: Arc::default(),
            random,
        }
    }

    fn deploy(&self, backend: Backend) -> Deployment<u64, String> {
        let (poison, skips) = (self.poison, self.skips);
        let stage = |name: &str| {
            let stage = Stage::named(name).attempts(self.attempts);
            match skips {
                true => stage.on_failure(OnFailure::Skip),
                false => stage,
            }
        };
        let mended = Arc::clone(&self.mended);
        let mut words = Pipeline::new()
            .then(move |n: u64| {
                let is_bad = poison == Some(n) && !mended.load(Ordering::Relaxed);
                async move {
                    match is_bad {
                        true => Err(permanent("poison")),
                        false => Ok(format!("{n} ")),
                    }
                }
            })
            .with(stage("words").packet_size(self.packet_size));
        for number in 1..self.maps {
            words = words
                .then(|word: String| async move { Ok::<_, BoxError>(word) })
                .with(stage(&format!("again-{number}")));
        }
        let whole = words.combine(Concat).with(
            Stage::named("concat")
                .attempts(self.attempts)
                .fan_in(self.fan_in),
        );
        match whole.deploy("torture", backend) {
            Ok(deployment) => deployment,
            Err(error) => panic!("{error}"),
        }
    }

    fn healthy(&self) -> Backend {
        Backend::new(self.queues.clone(), self.scratchpad.clone())
    }

    fn chaotic(&self) -> Backend {
        Backend::new(
            self.chaos.queues(self.queues.clone()),
            self.chaos.scratchpad(self.scratchpad.clone()),
        )
    }

    /// The result of a plan, computed in a loop.
    fn expected(&self, plan: Plan) -> (String, u64) {
        let bad = self.poison.filter(|_| self.skips);
        let kept = (0..plan.length).filter(|n| Some(*n) != bad);
        let skipped = u64::from(bad.is_some_and(|bad| bad < plan.length));
        (kept.map(|n| format!("{n} ")).collect(), skipped)
    }

    async fn play(mut self) -> Report {
        let begin = Instant::now();
        let mut report = Report {
            runs: self.plans.len() as u64,
            ..Report::default()
        };
        let mut crowd = JoinSet::new();
        for _ in 0..self.random.u32(1..=3) {
            let random = fastrand::Rng::with_seed(self.random.u64(..));
            let deployment = self.deploy(self.chaotic());
            crowd.spawn(workers(deployment, random, Arc::clone(&self.deaths)));
        }
        let mut ends = JoinSet::new();
        for (number, plan) in self.plans.clone().into_iter().enumerate() {
            let id = format!("run-{number}");
            let deployment = self.deploy(self.chaotic());
            let random = fastrand::Rng::with_seed(self.random.u64(..));
            let deaths = Arc::clone(&self.deaths);
            crowd.spawn(submitter(
                deployment.clone(),
                id.clone(),
                plan,
                random,
                deaths,
            ));
            if let Some(after) = plan.cancelled_after {
                let run = deployment.attach(id.as_str());
                crowd.spawn(async move {
                    sleep(after).await;
                    while run.cancel().await.is_err() {
                        sleep(Duration::from_secs(1)).await;
                    }
                });
            }
            let random = fastrand::Rng::with_seed(self.random.u64(..));
            let run = deployment.attach(id.as_str());
            let mended = (!self.skips).then(|| Arc::clone(&self.mended));
            ends.spawn(async move { (number, operator(run, mended, random).await) });
        }
        // After a while there is one worker that stays healthy.
        let storm = Duration::from_secs(self.random.u64(60..1_200));
        let healthy = self.deploy(self.healthy());
        let calm = async {
            sleep(storm).await;
            healthy.worker().start()
        };
        let mut open: Vec<usize> = (0..self.plans.len()).collect();
        let ended = async {
            while let Some(end) = ends.join_next().await {
                let (number, end) = match end {
                    Ok(end) => end,
                    Err(error) => panic!("seed {}: {error}", self.seed),
                };
                open.retain(|other| *other != number);
                self.judge(number, end, &mut report);
            }
        };
        let (late, worker) = futures::join!(timeout(STUCK, ended), calm);
        if late.is_err() {
            report.stuck += open.len() as u64;
            let seed = self.seed;
            let stuck = open.iter().map(|number| {
                format!(
                    "seed {seed}: run {number} is stuck: {:?}",
                    self.plans.get(*number)
                )
            });
            report.problems.extend(stuck);
        }
        crowd.shutdown().await;
        self.leftovers(&healthy, &mut report).await;
        drop(worker);
        report.faults = self.chaos.counts();
        if let Ok(deaths) = self.deaths.lock() {
            report.faults.extend(deaths.clone());
        }
        report.simulated = begin.elapsed();
        report
    }

    fn judge(&self, number: usize, end: Result<Outcome<String>, Error>, report: &mut Report) {
        let Some(plan) = self.plans.get(number).copied() else {
            return;
        };
        let (value, skipped) = self.expected(plan);
        let problem = match end {
            Ok(outcome) => {
                let contains = plan.length - skipped;
                let found = (outcome.items, outcome.contains, outcome.skipped);
                let is_right = outcome.value == value && found == (plan.length, contains, skipped);
                (!is_right).then(|| format!("{outcome:?} instead of {value:?}, {skipped} skipped"))
            }
            Err(Error::Cancelled { .. }) if plan.cancelled_after.is_some() => {
                report.cancelled += 1;
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            report.wrong += 1;
            let seed = self.seed;
            report
                .problems
                .push(format!("seed {seed}, run {number}, {plan:?}: {problem}"));
        }
    }

    /// Late messages have an end, too: none circulates in the queues forever.
    async fn leftovers(&self, healthy: &Deployment<u64, String>, report: &mut Report) {
        sleep(Duration::from_secs(60 * 60)).await;
        for stage in healthy.stages() {
            let name = format!("torture--{stage}");
            let queue = self.queues.open(&name, &QueueOptions::default()).await;
            let depth = match queue {
                Ok(queue) => queue.depth().await,
                Err(error) => Err(error),
            };
            let is_empty = depth
                .as_ref()
                .is_ok_and(|depth| depth.ready + depth.in_flight + depth.delayed == 0);
            if !is_empty {
                report.stuck += 1;
                let seed = self.seed;
                report.problems.push(format!(
                    "seed {seed}: stage {stage} still has messages: {depth:?}"
                ));
            }
        }
    }
}

pub(crate) type Deaths = Arc<std::sync::Mutex<BTreeMap<&'static str, u64>>>;

pub(crate) fn count(deaths: &Deaths, kind: &'static str) {
    if let Ok(mut deaths) = deaths.lock() {
        *deaths.entry(kind).or_default() += 1;
    }
}

/// A place where one worker after the other lives for a while, and dies or shuts down.
async fn workers(deployment: Deployment<u64, String>, mut random: fastrand::Rng, deaths: Deaths) {
    loop {
        let worker = deployment
            .worker()
            .prefetch(random.usize(1..=10))
            .grace_period(Duration::from_secs(random.u64(0..40)))
            .start();
        sleep(Duration::from_millis(random.u64(500..120_000))).await;
        if random.bool() {
            count(&deaths, "workers that died");
            drop(worker);
        } else {
            count(&deaths, "workers that shut down");
            worker.shutdown().await;
        }
        sleep(Duration::from_millis(random.u64(0..20_000))).await;
    }
}

/// Submits, dies on the way, submits again, until it is done.
async fn submitter(
    deployment: Deployment<u64, String>,
    id: String,
    plan: Plan,
    mut random: fastrand::Rng,
    deaths: Deaths,
) {
    sleep(Duration::from_millis(random.u64(0..30_000))).await;
    loop {
        let submission = async {
            match plan.stream {
                true => {
                    let items = futures::stream::iter(0..plan.length);
                    deployment.submit_stream_as(id.as_str(), items).await
                }
                false => deployment.submit_as(id.as_str(), 0..plan.length).await,
            }
        };
        let life = match random.bool() {
            true => Duration::from_millis(random.u64(0..10_000)),
            false => STUCK,
        };
        match timeout(life, submission).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) if error.is_retryable() => {}
            // What an earlier submitter sent was enough: the run is done, and was forgotten a minute after its result was taken.
            Ok(Err(Error::NoSuchRun { .. })) => return,
            Ok(Err(error)) => panic!("submitting {id}: {error}"),
            Err(_) => count(&deaths, "submitters that died"),
        }
        sleep(Duration::from_millis(random.u64(0..60_000))).await;
    }
}

/// Waits for a run, and redrives it as often as it fails, after fixing the function if the plan
/// says so.
async fn operator(
    run: Run<String>,
    mended: Option<Arc<AtomicBool>>,
    mut random: fastrand::Rng,
) -> Result<Outcome<String>, Error> {
    loop {
        match run.outcome().await {
            Err(Error::NoSuchRun { .. }) => {}
            Err(Error::Failed { .. }) => {
                sleep(Duration::from_millis(random.u64(0..120_000))).await;
                if let Some(mended) = &mended {
                    mended.store(true, Ordering::Relaxed);
                }
                // If this fails, or finds nothing yet, the next round repeats it.
                drop(run.redrive().await);
            }
            Err(error) if error.is_retryable() => {}
            end => return end,
        }
        sleep(Duration::from_secs(1)).await;
    }
}
