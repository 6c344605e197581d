//! One seeded run of everything at once, on a paused clock: a few overlapping runs over one store,
//! while workers die and join, submitters die and repeat, functions fail and are fixed, runs are
//! cancelled and redriven, and the backend does everything that [`Chaos`] can.

#[path = "simulation/items.rs"]
mod items;

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::queue::{QueueOptions, Queues};
use catchment::testing::faults::{Chaos, Rates};
use catchment::{
    Backend, Backoff, BoxError, Combine, Context, Deployment, Error, Outcome, Pipeline, Run, Stage,
};
use items::{Items, Listed};
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
    /// Good items that were left out, since too many processes ended while they were at work by themselves.
    pub(crate) blamed: u64,
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
        self.blamed += other.blamed;
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

    async fn fold(
        &self,
        items: catchment::Items<'_, String>,
        _: &Context,
    ) -> Result<String, BoxError> {
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
    visibility_timeout: Duration,
    backoff: Backoff,
    items: Arc<Items>,
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
        let attempts = random.u32(3..=8);
        Self {
            seed,
            chaos: Chaos::new(random.u64(..), Rates::default()),
            queues: Arc::new(MemoryQueues::new()),
            scratchpad: Arc::new(MemoryScratchpad::new()),
            maps: random.u32(1..=2),
            attempts,
            fan_in: random.u32(2..=5),
            packet_size: random.u32(1..=4),
            visibility_timeout: match random.bool() {
                true => Duration::from_secs(30),
                false => Duration::from_secs(random.u64(5..30)),
            },
            backoff: backoff(&mut random),
            items: Items::draw(&mut random, attempts),
            plans,
            deaths: Arc::default(),
            random,
        }
    }

    fn deploy(&self, backend: Backend) -> Deployment<u64, String> {
        let stage = |name: &str| {
            Stage::named(name)
                .attempts(self.attempts)
                .visibility_timeout(self.visibility_timeout)
        };
        let fallible = |name: &str| {
            let stage = stage(name).timeout(Duration::from_secs(10));
            stage.backoff(self.backoff).on_failure(self.items.policy)
        };
        // Each item is called by one of the stages.
        let maps = u64::from(self.maps);
        let (items, labels) = (Arc::clone(&self.items), Arc::clone(&self.items));
        let mut words = Pipeline::new()
            .then_with(move |n: u64, context: Context| {
                let items = Arc::clone(&items);
                async move {
                    if n.is_multiple_of(maps) {
                        items.call(n, &context).await?;
                    }
                    Ok::<_, BoxError>(format!("{n} "))
                }
            })
            .with(
                fallible("words")
                    .packet_size(self.packet_size)
                    .label(move |n: &u64| labels.label(*n).unwrap_or_default()),
            );
        for number in 1..self.maps {
            let (items, labels) = (Arc::clone(&self.items), Arc::clone(&self.items));
            words = words
                .then_with(move |word: String, context: Context| {
                    let items = Arc::clone(&items);
                    async move {
                        let n: u64 = word.trim().parse()?;
                        if n % maps == u64::from(number) {
                            items.call(n, &context).await?;
                        }
                        Ok::<_, BoxError>(word)
                    }
                })
                .with(
                    fallible(&format!("again-{number}")).label(move |word: &String| {
                        let n = word.trim().parse();
                        n.ok().and_then(|n| labels.label(n)).unwrap_or_default()
                    }),
                );
        }
        let whole = words
            .combine(Concat)
            .with(stage("concat").fan_in(self.fan_in));
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
            let record = self.deploy(self.healthy()).attach(id.as_str());
            let items = Arc::clone(&self.items);
            ends.spawn(async move { (number, operator(run, record, items, random).await) });
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
        let problems = self.items.take_problems().into_iter();
        let problems = problems.map(|problem| format!("seed {}: {problem}", self.seed));
        let before = report.problems.len();
        report.problems.extend(problems);
        report.wrong += (report.problems.len() - before) as u64;
        self.leftovers(&healthy, &mut report).await;
        drop(worker);
        report.faults = self.chaos.counts();
        report.faults.extend(self.items.counts());
        if let Ok(deaths) = self.deaths.lock() {
            report.faults.extend(deaths.clone());
        }
        report.simulated = begin.elapsed();
        report
    }

    fn judge(&self, number: usize, end: Result<End, Error>, report: &mut Report) {
        let Some(plan) = self.plans.get(number).copied() else {
            return;
        };
        let problem = match end {
            Ok((outcome, listed)) => {
                let blamed = &mut report.blamed;
                let problem = self.items.judge(plan.length, &outcome, &listed, blamed);
                problem.map(|problem| format!("{problem}: {outcome:?}"))
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
        sleep(Duration::from_secs(3 * 60 * 60)).await;
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

/// Waits for a run, and redrives it as often as it fails, after fixing the functions unless bad items are left out. `record`
/// is read without faults, before it is forgotten.
async fn operator(
    run: Run<String>,
    record: Run<String>,
    items: Arc<Items>,
    mut random: fastrand::Rng,
) -> Result<End, Error> {
    loop {
        match run.outcome().await {
            Err(Error::NoSuchRun { .. }) => {}
            Err(Error::Failed { failure, .. }) => {
                sleep(Duration::from_millis(random.u64(0..120_000))).await;
                items.failed(run.id().as_str(), &failure);
                // If this fails, or finds nothing yet, the next round repeats it.
                drop(run.redrive().await);
            }
            Err(error) if error.is_retryable() => {}
            Ok(outcome) => {
                let listed = match record.status().await {
                    Ok(_) => Some(record.failures().limit(1_000).await?.items),
                    Err(_) => None,
                };
                return Ok((outcome, listed));
            }
            Err(error) => return Err(error),
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// The outcome of a run, and what is on record of it.
type End = (Outcome<String>, Listed);

/// How long failed items wait: at once again, for as long as their packets may be kept, or mostly for longer.
fn backoff(random: &mut fastrand::Rng) -> Backoff {
    match random.u32(0..4) {
        0 => Backoff::none(),
        1 => Backoff::deployed(),
        2 => Backoff::exponential(Duration::from_secs(1), Duration::from_secs(5)),
        _ => Backoff::exponential(Duration::from_secs(60), Duration::from_secs(600)),
    }
}
