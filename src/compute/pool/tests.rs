//! The pool on jobs that are driven by hand.

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, Mutex};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{advance, sleep};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A job that says when it begins, and ends when it is told to.
struct Manual {
    name: &'static str,
    begins: UnboundedSender<&'static str>,
    gate: Mutex<Receiver<Result<(), &'static str>>>,
    steps: AtomicUsize,
}

/// Ends a manual job; dropping it does, too.
type Gate = Sender<Result<(), &'static str>>;

impl Job for Manual {
    type Output = Result<&'static str, String>;

    fn run(&self) -> Self::Output {
        self.steps.fetch_add(1, Ordering::Relaxed);
        // A test may have ended.
        let _ = self.begins.send(self.name);
        if let Ok(Err(panic)) = self.gate.lock().unwrap().recv() {
            panic!("{panic}");
        }
        Ok(self.name)
    }

    fn begun(&self) -> usize {
        self.steps.load(Ordering::Relaxed)
    }

    fn failed(&self, error: String) -> Self::Output {
        Err(error)
    }
}

/// A place where manual jobs begin, in the order in which they do.
struct Bench {
    begins: UnboundedReceiver<&'static str>,
    begun: UnboundedSender<&'static str>,
}

impl Bench {
    fn new() -> Self {
        let (begun, begins) = unbounded_channel();
        Self { begins, begun }
    }

    fn job(&self, name: &'static str) -> (Arc<Manual>, Gate) {
        let (gate, gated) = channel();
        let job = Manual {
            name,
            begins: self.begun.clone(),
            gate: Mutex::new(gated),
            steps: AtomicUsize::new(0),
        };
        (Arc::new(job), gate)
    }

    async fn next(&mut self) -> &'static str {
        self.begins.recv().await.unwrap()
    }
}

async fn outcomes(
    running: &mut Running<Result<&'static str, String>>,
) -> Vec<(usize, Option<Result<&'static str, String>>)> {
    let mut all = Vec::new();
    loop {
        let ended = running.next().await;
        if ended.is_empty() {
            all.sort_unstable_by_key(|(position, _)| *position);
            return all;
        }
        all.extend(ended.into_iter().map(|(position, ended)| match ended {
            Ended::Done(output) => (position, Some(output)),
            Ended::NotBegun => (position, None),
        }));
    }
}

#[tokio::test]
async fn jobs_of_later_stages_begin_first() {
    let mut bench = Bench::new();
    let cpu = Cpu::new(1, [9, 9].into_iter(), false);
    let (first, gate) = bench.job("first");
    let (early, _early) = bench.job("early");
    let (late, _late) = bench.job("late");
    drop((_early, _late));
    let mut first = cpu.run(0, vec![first as _], TIMEOUT);
    assert_eq!(bench.next().await, "first");
    let mut early = cpu.run(0, vec![early as _], TIMEOUT);
    let mut late = cpu.run(1, vec![late as _], TIMEOUT);
    drop(gate);
    assert_eq!((bench.next().await, bench.next().await), ("late", "early"));
    for running in [&mut first, &mut early, &mut late] {
        assert_eq!(outcomes(running).await.len(), 1);
    }
}

#[tokio::test]
async fn a_stage_runs_no_more_jobs_at_once_than_its_limit() {
    let mut bench = Bench::new();
    let cpu = Cpu::new(4, [1].into_iter(), false);
    let (one, first_gate) = bench.job("one");
    let (two, second_gate) = bench.job("two");
    let mut running = cpu.run(0, vec![one as _, two as _], TIMEOUT);
    assert_eq!(bench.next().await, "one");
    assert_eq!(cpu.lock().runners, 1, "no thread for a job that must wait");
    drop(first_gate);
    assert_eq!(bench.next().await, "two");
    drop(second_gate);
    let done = outcomes(&mut running).await;
    assert_eq!(done, [(0, Some(Ok("one"))), (1, Some(Ok("two")))]);
}

#[tokio::test]
async fn cancelled_jobs_never_begin_unless_they_finish_something() {
    let mut bench = Bench::new();
    let cpu = Cpu::new(1, [9].into_iter(), false);
    let (first, gate) = bench.job("first");
    let (queued, _) = bench.job("queued");
    let (part, _) = bench.job("part");
    let mut running = cpu.run(0, vec![first as _, queued as _], TIMEOUT);
    assert_eq!(bench.next().await, "first");
    let mut part = cpu.finish(0, part, TIMEOUT);
    cpu.cancel_queued();
    drop(gate);
    let done = outcomes(&mut running).await;
    assert_eq!(done, [(0, Some(Ok("first"))), (1, None)]);
    assert_eq!(outcomes(&mut part).await, [(0, Some(Ok("part")))]);
}

#[tokio::test]
async fn a_runner_survives_a_panic() {
    let mut bench = Bench::new();
    let cpu = Cpu::new(1, [9].into_iter(), false);
    let (bad, gate) = bench.job("bad");
    let (good, good_gate) = bench.job("good");
    drop(good_gate);
    let mut running = cpu.run(0, vec![bad as _, good as _], TIMEOUT);
    assert_eq!(bench.next().await, "bad");
    gate.send(Err("on purpose")).unwrap();
    let done = outcomes(&mut running).await;
    assert_eq!(done[0], (0, Some(Err("panicked: on purpose".to_owned()))));
    assert_eq!(done[1], (1, Some(Ok("good"))));
}

/// Values of the user's are dropped with the job.
#[tokio::test]
async fn a_runner_survives_a_panic_of_a_value_that_is_dropped() {
    struct Bomb(AtomicBool);
    impl Job for Bomb {
        type Output = ();
        fn run(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
        fn begun(&self) -> usize {
            0
        }
        fn failed(&self, _: String) {}
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0.load(Ordering::Relaxed) {
                panic!("on purpose");
            }
        }
    }
    let mut bench = Bench::new();
    let cpu = Cpu::new(1, [9].into_iter(), false);
    let (first, gate) = bench.job("first");
    let mut first = cpu.run(0, vec![first as _], TIMEOUT);
    assert_eq!(bench.next().await, "first");
    // Dropped by the runner, which is the last to hold it: as abandoned, it would not be run.
    let ticket: Ticket = {
        struct One(Bomb);
        impl Queued for One {
            fn run(&self, _: usize) -> bool {
                self.0.run();
                true
            }
            fn cancel(&self, _: usize) -> bool {
                true
            }
        }
        (Arc::new(One(Bomb(AtomicBool::new(false)))), 0)
    };
    cpu.enqueue(0, std::iter::once(ticket), true);
    drop(gate);
    assert_eq!(outcomes(&mut first).await.len(), 1);
    let (last, gate) = bench.job("last");
    drop(gate);
    let mut last = cpu.run(0, vec![last as _], TIMEOUT);
    assert_eq!(outcomes(&mut last).await, [(0, Some(Ok("last")))]);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_job_is_given_up_and_its_thread_is_lost_until_it_returns() {
    let mut bench = Bench::new();
    let cpu = Cpu::new(1, [9, 1].into_iter(), false);
    let mut lost = cpu.lost_threads();
    let (stuck, gate) = bench.job("stuck");
    let mut running = cpu.run(1, vec![stuck as _], TIMEOUT);
    assert_eq!(bench.next().await, "stuck");
    let done = {
        let mut done = std::pin::pin!(outcomes(&mut running));
        loop {
            tokio::select! {
                biased;
                done = &mut done => break done,
                () = tokio::task::yield_now() => advance(TIMEOUT / 4).await,
            }
        }
    };
    assert_eq!(done, [(0, Some(Err(timed_out(TIMEOUT))))]);
    assert_eq!(*lost.borrow_and_update(), [0, 1]);
    // Its place and its stage's are free.
    let (next, next_gate) = bench.job("next");
    let mut next = cpu.run(1, vec![next as _], TIMEOUT);
    assert_eq!(bench.next().await, "next");
    drop(next_gate);
    assert_eq!(outcomes(&mut next).await, [(0, Some(Ok("next")))]);
    drop(gate);
    lost.changed().await.unwrap();
    assert_eq!(*lost.borrow_and_update(), [0, 0]);
}

/// A job that is begun anew without what was stuck in it, as one whose items may be left out.
struct Replaced {
    stuck: Arc<Manual>,
    replacement: Arc<Manual>,
}

impl Job for Replaced {
    type Output = Result<&'static str, String>;

    fn run(&self) -> Self::Output {
        self.stuck.run()
    }

    fn begun(&self) -> usize {
        self.stuck.begun()
    }

    fn failed(&self, error: String) -> Self::Output {
        Err(error)
    }

    fn instead(&self, _: &str) -> Option<Arc<dyn Job<Output = Self::Output>>> {
        Some(Arc::clone(&self.replacement) as _)
    }
}

#[tokio::test(start_paused = true)]
async fn a_replacement_goes_first_and_is_not_cancelled() {
    let mut bench = Bench::new();
    let cpu = Cpu::new(1, [9].into_iter(), false);
    let (stuck, _gate) = bench.job("stuck");
    let (replacement, replacement_gate) = bench.job("replacement");
    let (queued, _queued_gate) = bench.job("queued");
    let replaced = Replaced { stuck, replacement };
    let mut running = cpu.run(0, vec![Arc::new(replaced) as _, queued as _], TIMEOUT);
    assert_eq!(bench.next().await, "stuck");
    let mut done = std::pin::pin!(outcomes(&mut running));
    loop {
        tokio::select! {
            biased;
            name = bench.next() => break assert_eq!(name, "replacement"),
            _ = &mut done => panic!("nothing has ended"),
            () = tokio::task::yield_now() => advance(TIMEOUT / 4).await,
        }
    }
    cpu.cancel_queued();
    drop(replacement_gate);
    assert_eq!(done.await, [(0, Some(Ok("replacement"))), (1, None)]);
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_waits_for_jobs() {
    let mut bench = Bench::new();
    let cpu = Cpu::new(1, [9].into_iter(), false);
    for _ in 0..10 {
        let (job, gate) = bench.job("job");
        let mut running = cpu.run(0, vec![job as _], TIMEOUT);
        assert_eq!(bench.next().await, "job");
        let opener = std::thread::spawn(move || {
            for _ in 0..10 {
                std::thread::yield_now();
            }
            drop(gate);
        });
        tokio::select! {
            biased;
            () = sleep(HOUR) => panic!("the clock has overtaken the job"),
            done = outcomes(&mut running) => assert_eq!(done, [(0, Some(Ok("job")))]),
        }
        opener.join().unwrap();
        // And then goes on.
        sleep(HOUR).await;
    }
}

#[test]
fn a_job_keeps_no_runtime_from_its_end() {
    for paused in [false, true] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(paused)
            .build()
            .unwrap();
        let mut bench = Bench::new();
        let (job, gate) = bench.job("job");
        runtime.block_on(async {
            let cpu = Cpu::new(1, [9].into_iter(), false);
            let mut running = cpu.run(0, vec![job as _], TIMEOUT);
            tokio::select! {
                _ = running.next() => panic!("it has not ended"),
                name = bench.next() => assert_eq!(name, "job"),
            }
            // As a task that the runtime drops at its end.
            tokio::spawn(async move { running.next().await.len() });
        });
        drop(runtime);
        drop(gate);
    }
}

/// Its timers fail, and the thread is free again.
#[test]
fn a_job_that_blocks_on_a_runtime_that_has_ended_ends_too() {
    struct Sleeper {
        begins: UnboundedSender<()>,
        gate: Mutex<Receiver<()>>,
        ended: Sender<bool>,
    }
    impl Job for Sleeper {
        type Output = ();
        fn run(&self) {
            let sleeps = || Handle::current().block_on(async { sleep(HOUR).await });
            self.begins.send(()).unwrap();
            let _ = self.gate.lock().unwrap().recv();
            let slept = catch_unwind(AssertUnwindSafe(sleeps));
            self.ended.send(slept.is_ok()).unwrap();
        }
        fn begun(&self) -> usize {
            0
        }
        fn failed(&self, _: String) {}
    }
    for opens_before in [true, false] {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build().unwrap();
        let (begins, mut begun) = unbounded_channel();
        let (open, gate) = channel();
        let (ended, end) = channel();
        let gate = Mutex::new(gate);
        let job: Arc<dyn Job<Output = ()>> = Arc::new(Sleeper {
            begins,
            gate,
            ended,
        });
        let mut open = Some(open);
        runtime.block_on(async {
            let cpu = Cpu::new(1, [9].into_iter(), false);
            let mut running = cpu.run(0, vec![job], TIMEOUT);
            tokio::select! {
                _ = running.next() => panic!("it has not ended"),
                _ = begun.recv() => {}
            }
        });
        if opens_before {
            open.take();
        }
        drop(runtime);
        drop(open);
        assert_eq!(end.recv(), Ok(false));
    }
}

#[tokio::test]
async fn a_job_finds_the_runtime_of_the_task_that_waits_for_it() {
    struct BlockOn;
    impl Job for BlockOn {
        type Output = usize;
        fn run(&self) -> usize {
            let work = async {
                tokio::task::yield_now().await;
                tokio::spawn(async { 7 }).await.unwrap()
            };
            Handle::current().block_on(work)
        }
        fn begun(&self) -> usize {
            0
        }
        fn failed(&self, error: String) -> usize {
            panic!("{error}")
        }
    }
    let cpu = Cpu::new(1, [9].into_iter(), false);
    let job: Arc<dyn Job<Output = usize>> = Arc::new(BlockOn);
    let mut running = cpu.run(0, vec![job], TIMEOUT);
    match running.next().await.pop() {
        Some((0, Ended::Done(7))) => {}
        _ => panic!("not done"),
    }
}

fn leaked(keep_alive: Duration) -> &'static Threads {
    Box::leak(Box::new(Threads::new(keep_alive)))
}

#[test]
fn an_idle_thread_is_used_again() {
    let threads = leaked(HOUR);
    let mut ids = Vec::new();
    for _ in 0..10 {
        let (send, id) = channel();
        let work = move || send.send(std::thread::current().id()).unwrap();
        threads.run(Box::new(work)).unwrap();
        ids.push(id.recv().unwrap());
        while threads.num_idle_threads() == 0 {
            std::thread::yield_now();
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

/// With no time to wait, nearly every hand-over meets a thread that is about to exit.
#[test]
fn work_that_is_handed_to_a_thread_about_to_exit_is_done() {
    const WORKS: usize = 2_000;
    let threads = leaked(Duration::ZERO);
    let done = Arc::new(AtomicUsize::new(0));
    let end = Arc::new(Barrier::new(2));
    for _ in 0..WORKS {
        let (done, ended) = (Arc::clone(&done), Arc::clone(&end));
        let work = move || {
            done.fetch_add(1, Ordering::Relaxed);
            ended.wait();
        };
        threads.run(Box::new(work)).unwrap();
        end.wait();
    }
    assert_eq!(done.load(Ordering::Relaxed), WORKS);
    while threads.num_idle_threads() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_thread_survives_a_panic_of_its_work() {
    let threads = leaked(HOUR);
    threads.run(Box::new(|| panic!("on purpose"))).unwrap();
    while threads.num_idle_threads() == 0 {
        std::thread::yield_now();
    }
    let (send, receive) = channel();
    let work = move || send.send(7).unwrap();
    threads.run(Box::new(work)).unwrap();
    assert_eq!(receive.recv(), Ok(7));
}
