//! One seeded run beside a [`Stranger`], on a paused clock: two deployments with a few runs, some of which the stranger writes
//! messages in the name of. What must hold is said at [`Stranger`]; here it is demanded.

#[path = "meaning/client.rs"]
mod client;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::{Arc, Once};
use std::time::Duration;

use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::queue::{QueueOptions, Queues};
use catchment::testing::faults::{Chaos, Rates, Stranger, Tally};
use catchment::{Backend, BoxError, Combine, Context, Deployment, Outcome, Pipeline, Stage};
use client::{End, Plan, client};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Time on the paused clock after which a run that has neither a result nor an error for good is stuck.
const STUCK: Duration = Duration::from_secs(40 * 60);
/// What a run that the stranger spares may take longer than without it, apart from what a rate limit paces.
const SLACK: Duration = Duration::from_secs(90);
/// The most messages of the stranger in one seed.
const MOST: usize = 60;
/// The deployment that the stranger writes to most, and the one beside it.
const DEPLOYMENTS: [&str; 2] = ["meaning", "beside"];

/// The outcome of one seed, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The stranger's messages by kind.
    pub(crate) sent: BTreeMap<&'static str, Tally>,
    /// Runs that were submitted.
    pub(crate) runs: u64,
    /// Of those: with a right result.
    pub(crate) right: u64,
    /// How often a run that had the right result in the end said before that it had failed.
    pub(crate) said_so: u64,
    /// Runs in whose name a message came that only a signature could tell from their own; all others are right, or a problem.
    pub(crate) impersonated: u64,
    /// Of those: with another result.
    pub(crate) deceived: u64,
    /// Of those: failed for good.
    pub(crate) found_out: u64,
    /// Whatever must not be, with its seed.
    pub(crate) wrong: u64,
    pub(crate) stuck: u64,
    pub(crate) problems: Vec<String>,
    /// Time on the paused clock.
    pub(crate) simulated: Duration,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        for (kind, tally) in other.sent {
            *self.sent.entry(kind).or_default() += tally;
        }
        self.runs += other.runs;
        self.right += other.right;
        self.said_so += other.said_so;
        self.impersonated += other.impersonated;
        self.deceived += other.deceived;
        self.found_out += other.found_out;
        self.wrong += other.wrong;
        self.stuck += other.stuck;
        self.problems.extend(other.problems);
        self.simulated += other.simulated;
    }
}

/// Runs a seed: without the stranger, for the time it takes, and with it. A problem comes with the message that makes it.
pub(crate) fn simulate(seed: u64) -> Report {
    let alone = on_a_paused_clock(seed, World::new(seed, 0).play(&BTreeMap::new())).1;
    let run = |most| {
        let world = World::new(seed, most);
        let stranger = world.stranger.clone();
        let report = on_a_paused_clock(seed, world.play(&alone)).0;
        (report, stranger)
    };
    let (mut report, _) = run(MOST);
    if report.problems.is_empty() {
        return report;
    }
    // The first messages of a seed are the same, however many there are.
    let least = (0..MOST).map(|most| (most, run(most)));
    let mut bad = least.filter(|(_, (report, _))| !report.problems.is_empty());
    if let Some((most, (first, stranger))) = bad.next() {
        let sent = stranger.sent();
        let last = sent.last().map_or("none", String::as_str);
        let problem = first.problems.first().map_or("", String::as_str);
        let least =
            format!("seed {seed}: after {most} messages, of which the last is {last}: {problem}");
        report.problems.insert(0, least);
    }
    report
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// One thread and a clock that moves when nothing else does, so that the same seed is the same run.
fn on_a_paused_clock<T>(seed: u64, work: impl Future<Output = T>) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
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

/// Everything that a seed decides before time begins.
struct World {
    seed: u64,
    random: fastrand::Rng,
    queues: Arc<MemoryQueues>,
    scratchpad: Arc<MemoryScratchpad>,
    chaos: Chaos,
    stranger: Stranger,
    maps: u32,
    finishes: bool,
    fan_in: u32,
    packet_size: u32,
    rate: Option<u32>,
    plans: Vec<Plan>,
}

impl World {
    fn new(seed: u64, most: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let rates = match random.bool() {
            true => Rates::none(),
            false => mild(),
        };
        let chaos = Chaos::new(random.u64(..), rates);
        let mut stranger = Stranger::new(random.u64(..), most);
        stranger = stranger.impersonates(random.u32(0..6) == 0);
        let runs: [(usize, &str, bool); 5] = [
            (0, "daily", false),
            (0, "second", false),
            (0, "quiet", true),
            (1, "near", false),
            (1, "calm", true),
        ];
        let mut plans = Vec::new();
        for (deployment, id, spared) in runs {
            if spared {
                stranger = stranger.spare(id);
            }
            let again = id == "daily" && random.bool();
            let lengths = (0..1 + u32::from(again)).map(|_| random.u64(0..30));
            let plan = Plan {
                deployment,
                id,
                lengths: lengths.collect(),
                stream: random.bool(),
                spared,
                after: Duration::from_millis(random.u64(0..20_000)),
            };
            if id != "second" || random.bool() {
                plans.push(plan);
            }
        }
        let finishes = random.bool();
        if finishes {
            for deployment in DEPLOYMENTS {
                stranger = stranger.after_reduction(&format!("{deployment}--finish"));
            }
        }
        Self {
            seed,
            queues: Arc::new(MemoryQueues::new()),
            scratchpad: Arc::new(MemoryScratchpad::new()),
            chaos,
            stranger,
            maps: random.u32(1..=2),
            finishes,
            fan_in: random.u32(2..=5),
            packet_size: random.u32(1..=4),
            rate: (random.u32(0..3) == 0).then(|| random.u32(1..10)),
            plans,
            random,
        }
    }

    fn deploy(&self, name: &str) -> Deployment<u64, String> {
        let mut first = Stage::named("words").packet_size(self.packet_size);
        if let Some(rate) = self.rate {
            first = first.rate_limit(rate, Duration::from_secs(1));
        }
        let mut words = Pipeline::new()
            .then(|n: u64| async move { Ok::<_, BoxError>(format!("{n} ")) })
            .with(first);
        if self.maps > 1 {
            words = words
                .then(|word: String| async move { Ok::<_, BoxError>(word) })
                .with(Stage::named("again"));
        }
        let whole = words
            .combine(Concat)
            .with(Stage::named("concat").fan_in(self.fan_in));
        let queues = self.stranger.queues(self.queues.clone());
        let queues = self.chaos.queues(queues);
        let scratchpad = self.chaos.scratchpad(self.scratchpad.clone());
        let backend = Backend::new(queues, scratchpad);
        let deployed = match self.finishes {
            true => whole
                .then(|text: String| async move { Ok::<_, BoxError>(format!("{text}.")) })
                .with(Stage::named("finish"))
                .deploy(name, backend),
            false => whole.deploy(name, backend),
        };
        match deployed {
            Ok(deployment) => deployment,
            Err(error) => panic!("{error}"),
        }
    }

    /// What happened, and how long each run took.
    async fn play(
        mut self,
        alone: &BTreeMap<String, Duration>,
    ) -> (Report, BTreeMap<String, Duration>) {
        let begin = Instant::now();
        let panics = PANICS.get();
        let deployments = DEPLOYMENTS.map(|name| self.deploy(name));
        let mut workers = Vec::new();
        for deployment in &deployments {
            for _ in 0..self.random.u32(1..=2) {
                let prefetch = self.random.usize(1..=10);
                workers.push(deployment.worker().prefetch(prefetch).start());
            }
        }
        let mut ends = JoinSet::new();
        for plan in self.plans.clone() {
            let random = fastrand::Rng::with_seed(self.random.u64(..));
            if let Some(deployment) = deployments.get(plan.deployment) {
                ends.spawn(client(deployment.clone(), plan, random));
            }
        }
        let mut report = Report::default();
        let mut took = BTreeMap::new();
        while let Some(end) = ends.join_next().await {
            match end {
                Ok(end) => {
                    for end in end {
                        took.insert(format!("{} of {}", end.plan.id, end.length), end.took);
                        self.judge(end, alone, &mut report);
                    }
                }
                Err(error) => self.problem(&mut report, format!("a client: {error}")),
            }
        }
        self.leftovers(&deployments, &mut report).await;
        if PANICS.get() > panics {
            let count = PANICS.get() - panics;
            self.problem(&mut report, format!("{count} panics"));
        }
        drop(workers);
        report.sent = self.stranger.counts();
        report.simulated = begin.elapsed();
        (report, took)
    }

    fn problem(&self, report: &mut Report, problem: String) {
        report.wrong += 1;
        report
            .problems
            .push(format!("seed {}: {problem}", self.seed));
    }

    fn judge(&self, end: End, alone: &BTreeMap<String, Duration>, report: &mut Report) {
        report.runs += 1;
        report.said_so += end.said_so;
        let name = format!("{} of {}", end.plan.id, end.length);
        for problem in end.problems {
            self.problem(report, format!("{name}: {problem}"));
        }
        let mut text: String = (0..end.length).map(|n| format!("{n} ")).collect();
        if self.finishes {
            text.push('.');
        }
        let counts = |outcome: &Outcome<String>| (outcome.items, outcome.contains, outcome.skipped);
        let right = match &end.outcome {
            Ok(outcome) => outcome.value == text && counts(outcome) == (end.length, end.length, 0),
            Err(_) => false,
        };
        report.right += u64::from(right);
        let impersonated = self.stranger.impersonated().contains(end.plan.id);
        report.impersonated += u64::from(impersonated);
        match (&end.outcome, impersonated) {
            _ if right => {}
            _ if end.is_stuck && !impersonated => {
                report.stuck += 1;
                self.problem(report, format!("{name} is stuck: {:?}", end.outcome));
            }
            (Ok(_), true) => report.deceived += 1,
            (Err(_), true) => report.found_out += 1,
            (outcome, false) => self.problem(report, format!("{name}: {outcome:?}")),
        }
        if !end.plan.spared {
            return;
        }
        if end.said_so > 0 {
            self.problem(report, format!("{name} was spared, and read as failed"));
        }
        if let Some(before) = alone.get(&name) {
            let paced = self
                .rate
                .map_or(0, |rate| self.stranger.items() / u64::from(rate));
            let most = *before * 2 + SLACK + Duration::from_secs(paced * 2);
            if end.took > most {
                let took = end.took;
                self.problem(
                    report,
                    format!("{name} was spared, and took {took:?}: alone {before:?}"),
                );
            }
        }
    }

    /// Nothing circulates for ever, nothing of the library's own was buried, and dead letters are no more than forgeries.
    async fn leftovers(&self, deployments: &[Deployment<u64, String>], report: &mut Report) {
        // Longer than a visibility timeout, and shorter than a dead letter is kept.
        sleep(Duration::from_secs(10 * 60)).await;
        let (mut letters, mut bytes) = (0, 0);
        for (deployment, name) in deployments.iter().zip(DEPLOYMENTS) {
            for stage in deployment.stages() {
                let queue = format!("{name}--{stage}");
                let Ok(open) = self.queues.open(&queue, &QueueOptions::default()).await else {
                    continue;
                };
                match open.depth().await {
                    Ok(depth) if depth.ready + depth.in_flight + depth.delayed == 0 => {}
                    depth => self.problem(report, format!("{queue} has messages: {depth:?}")),
                }
                if let Ok(page) = open.dead_letters(None, 10_000).await {
                    letters += page.items.len() as u64;
                    bytes += page
                        .items
                        .iter()
                        .map(|letter| letter.body.len())
                        .sum::<usize>();
                }
            }
        }
        let sent = self.stranger.counts();
        let copies = u64::from(self.chaos.counts().contains_key("duplicates")) + 1;
        let sent: u64 = sent.values().map(|tally| tally.sent).sum();
        if letters > sent * copies || bytes > self.stranger.bytes() * 2 {
            self.problem(
                report,
                format!("{letters} dead letters of {bytes} bytes, {sent} were sent"),
            );
        }
        if self.stranger.impersonated().is_empty() {
            for letter in self.stranger.genuine_dead_letters() {
                self.problem(report, format!("buried though genuine: {letter}"));
            }
        }
    }
}

/// Copies, late and out of order, and calls that take a moment longer: nothing that moves a run by minutes.
fn mild() -> Rates {
    let mut rates = Rates::none();
    rates.slow = 0.02;
    rates.duplicated = 0.1;
    rates.revived = 0.05;
    rates.reordered = 0.5;
    rates
}
