//! The example `distributed` as a user runs it: each command a process of its own, killed now and
//! then.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::Cell;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::{Tables, ministack, unique};

const BUILD: &str =
    "build it with: cargo build --features aws,http --example distributed --example adder_http";

/// Longer than anything here may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(20);

/// For tests in which workers end: the visibility timeout in seconds, after which messages that
/// they were about to receive are delivered again.
pub(crate) const SOON: [&str; 2] = ["--visibility-seconds", "3"];

/// Polls until there is something to be seen.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begin.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(LOOK);
    }
}

/// An example's program, in the folder next to the tests' programs.
fn program(name: &str) -> PathBuf {
    find_program(name).unwrap_or_else(|problem| panic!("{problem}: {BUILD}"))
}

/// `cargo test --test aws` does not build it: it may be missing, or older than its sources.
fn find_program(name: &str) -> Result<PathBuf, String> {
    let changed = |path: &Path| std::fs::metadata(path)?.modified();
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().and_then(Path::parent);
    let program = profile.unwrap().join("examples").join(name);
    let Ok(built) = changed(&program) else {
        return Err(format!("{} is missing", program.display()));
    };
    let tests_built = changed(&tests).unwrap();
    // `program: source source …`. Changes made after the tests were built are not in the tests
    // either.
    let sources = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let mut sources = sources.split_whitespace().skip(1);
    let is_newer = |source: &&str| {
        changed(Path::new(source)).is_ok_and(|changed| built < changed && changed < tests_built)
    };
    match sources.find(is_newer) {
        None => Ok(program),
        Some(source) => Err(format!("{source} is newer than {}", program.display())),
    }
}

/// A deployment of the example under a name of its own. It is removed with everything in it at the
/// end of its test.
pub(crate) struct Adder {
    name: String,
    tables: Tables,
    tuning: Vec<&'static str>,
    has_credentials: bool,
    /// The home of its processes, which has no AWS profile in it, and where their output goes.
    folder: TempDir,
    processes: Cell<usize>,
}

impl Adder {
    /// `tuning` is added to every command.
    pub(crate) fn new(tables: Tables, tuning: &[&'static str]) -> Self {
        Self {
            name: unique("adder"),
            tables,
            tuning: tuning.to_vec(),
            has_credentials: true,
            folder: tempfile::tempdir().unwrap(),
            processes: Cell::new(0),
        }
    }

    pub(crate) fn provisioned(tables: Tables, tuning: &[&'static str]) -> Self {
        let adder = Self::new(tables, tuning);
        let made = adder.answer(&["provision"]);
        assert_eq!(made.matches(": created").count(), 6, "{made}");
        adder
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        self.example("distributed", arguments)
    }

    /// One of the adder's programs.
    pub(crate) fn example(&self, name: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new(program(name));
        if !arguments.contains(&"--backend") {
            command.args(["--backend", "aws"]);
        }
        command
            .args(["--name", &self.name])
            .args(&self.tuning)
            .args(arguments);
        self.process(command, format!("{name} {}", arguments.join(" ")), &[])
    }

    /// Any program at work for this deployment, with its environment and these changes to it.
    pub(crate) fn process(
        &self,
        mut command: Command,
        what: String,
        changes: &[(&str, &str)],
    ) -> Process {
        let number = self.processes.replace(self.processes.get() + 1);
        let out = self.folder.path().join(format!("{number}.out"));
        let err = self.folder.path().join(format!("{number}.err"));
        command
            // No personal settings, such as AWS_PROFILE.
            .env_clear()
            .env("HOME", self.folder.path())
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL", ministack())
            .env("AWS_ENDPOINT_URL_DYNAMODB", self.tables.endpoint())
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        if self.has_credentials {
            command
                .env("AWS_ACCESS_KEY_ID", "catchment")
                .env("AWS_SECRET_ACCESS_KEY", "catchment");
        }
        command.envs(changes.iter().copied());
        Process {
            what,
            child: command.spawn().unwrap(),
            out,
            err,
        }
    }

    pub(crate) fn worker(&self) -> Process {
        self.start(&["worker"])
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).ended()
    }

    /// The output of a command, which must succeed.
    pub(crate) fn answer(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
        ended.requests();
        ended.out.trim_end().to_owned()
    }

    /// The error of a command, which must fail: one line, and nothing that a script could take for
    /// an answer.
    pub(crate) fn refusal(&self, arguments: &[&str], code: i32) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        assert_eq!(ended.out, "", "{ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
        assert!(ended.err.starts_with("distributed: "), "{ended:?}");
        println!("{}", ended.err.trim_end());
        ended.err
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Packets done, and all there are.
    pub(crate) fn packets(&self, run: &str) -> (u64, u64) {
        let status = self.answer(&["status", run]);
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("packets: "));
        let (done, all) = line.and_then(|line| line.split_once(" of ")).unwrap();
        (done.parse().unwrap(), all.parse().unwrap())
    }
}

impl Drop for Adder {
    fn drop(&mut self) {
        // A test that has failed already needs no further checks.
        if self.has_credentials && !std::thread::panicking() {
            let gone = self.answer(&["deprovision", &self.name]);
            assert!(
                gone.lines().all(|line| line.ends_with(": deleted")),
                "{gone}"
            );
        }
    }
}

/// A process, which is killed when the test is over.
pub(crate) struct Process {
    what: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// The outcome of a process.
#[derive(Debug)]
pub(crate) struct Ended {
    #[allow(dead_code, reason = "for the messages of assertions")]
    what: String,
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Process {
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &process]).status();
        assert!(sent.unwrap().success(), "kill -s {signal} {}", self.what);
    }

    /// Its output so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> Ended {
        let status = until(&self.what.clone(), || self.child.try_wait().unwrap());
        let ended = Ended {
            what: self.what.clone(),
            status,
            out: std::fs::read_to_string(&self.out).unwrap(),
            err: std::fs::read_to_string(&self.err).unwrap(),
        };
        let has_feature = !ended.err.contains("built without the feature");
        assert!(
            has_feature,
            "a build without `aws` has taken its place: {BUILD}"
        );
        ended
    }

    /// Ends a worker as an operator does.
    pub(crate) fn told_to_end(self, signal: &str) -> Ended {
        self.signal(signal);
        let ended = self.ended();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(ended.out, "", "{ended:?}");
        println!("worker: {}", ended.requests());
        ended
    }

    /// Ends a worker as a power failure does.
    pub(crate) fn killed(self) {
        self.signal("KILL");
        let ended = self.ended();
        assert_eq!(ended.status.signal(), Some(9), "{ended:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The last line that a command prints: `catchment: 7 requests: DynamoDB GetItem 3, …`.
    fn requests(&self) -> &str {
        let line = self.err.lines().last().unwrap_or_default();
        let requests = line.strip_prefix("catchment: ");
        let requests = requests.unwrap_or_else(|| panic!("no requests: {self:?}"));
        let (total, kinds) = requests.split_once(" requests: ").unwrap();
        let counts = kinds.split(", ").map(|kind| {
            let (_, count) = kind.rsplit_once(' ').unwrap();
            count.parse::<u64>().unwrap()
        });
        assert_eq!(total.parse(), Ok(counts.sum::<u64>()), "{self:?}");
        requests
    }
}

fn four_processes_make_one_sum(tables: Tables) {
    let adder = Adder::provisioned(tables, &[]);
    let again = adder.answer(&["provision"]);
    assert_eq!(again.matches(": unchanged").count(), 6, "{again}");
    let workers = [adder.worker(), adder.worker()];
    let begin = Instant::now();
    let submitted = adder.run(&["submit", "--count", "100000"]);
    println!("submit: {}", submitted.requests());
    let run = submitted.out.trim_end();
    let result = adder.run(&["result", run]);
    assert_eq!(result.out, "10000100000\n", "{result:?}");
    println!("result: {}", result.requests());
    println!(
        "{:.1} s from submit to result",
        begin.elapsed().as_secs_f64()
    );
    let status = adder.answer(&["status", run]);
    for line in ["state: done", "items: 100000 of 100000", "failures: 0"] {
        assert!(status.lines().any(|given| given == line), "{status}");
    }
    for worker in workers {
        worker.told_to_end("TERM");
    }
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn four_processes_make_one_sum_on_ministack() {
    four_processes_make_one_sum(Tables::Ministack);
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn four_processes_make_one_sum_on_dynamodb_local() {
    four_processes_make_one_sum(Tables::DynamoDbLocal);
}

/// Three workers die while they hold packets, and each is replaced.
fn workers_that_die_take_nothing_along(tables: Tables) {
    // So slow that the run takes some ten seconds.
    let slow = ["--packet-size", "100", "--items-per-second", "5000"];
    let adder = Adder::provisioned(tables, &[slow.as_slice(), &SOON].concat());
    let mut workers = vec![adder.worker(), adder.worker()];
    let run = adder.answer(&["submit", "--count", "100000"]);
    let mut before = 0;
    for _ in 0..3 {
        let (done, all) = until("packets of a run", || {
            let (done, all) = adder.packets(&run);
            (done >= before + 100).then_some((done, all))
        });
        assert!(
            (1..all).contains(&done),
            "not in the middle: {done} of {all}"
        );
        println!("a worker is killed: {done} of {all} packets are done");
        workers.remove(0).killed();
        workers.push(adder.worker());
        before = done;
    }
    assert_eq!(adder.answer(&["result", &run]), "10000100000");
    for worker in workers {
        worker.told_to_end("TERM");
    }
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn workers_that_die_take_nothing_along_on_ministack() {
    workers_that_die_take_nothing_along(Tables::Ministack);
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn workers_that_die_take_nothing_along_on_dynamodb_local() {
    workers_that_die_take_nothing_along(Tables::DynamoDbLocal);
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn a_dead_letter_is_redriven_to_a_better_worker() {
    let adder = Adder::provisioned(Tables::Ministack, &SOON);
    let weak = adder.start(&["worker", "--limit", "100"]);
    let run = adder.answer(&["submit", "1", "101", "7"]);
    let problem = "101 is above this worker's limit of 100";
    let refusal = adder.refusal(&["result", &run], 1);
    for part in [&run, "`times_two`, packet 1, item 1", problem] {
        assert!(refusal.contains(part), "{refusal}");
    }
    // The dead letter is in its queue a moment after the failure is on record.
    let letters = until("the dead letter", || {
        let letters = adder.answer(&["dead-letters", &run]);
        (!letters.is_empty()).then_some(letters)
    });
    println!("{letters}");
    assert_eq!(
        letters,
        format!("stage times_two, run {run}, packet 1, item 1, attempts 1: {problem}")
    );
    assert_eq!(adder.answer(&["dead-letters"]), letters);
    until("the rest of the run", || {
        (adder.packets(&run) == (2, 3)).then_some(())
    });
    let status = adder.answer(&["status", &run]);
    println!("{status}");
    for line in ["state: failed", "items: 2 of 3", "failures: 1"] {
        assert!(status.lines().any(|given| given == line), "{status}");
    }

    weak.told_to_end("TERM");
    let strong = adder.worker();
    assert_eq!(adder.answer(&["redrive", &run]), "1");
    assert_eq!(adder.answer(&["result", &run]), "218");
    assert_eq!(adder.answer(&["dead-letters"]), "");

    let overflow = ["submit", "--id", "too-much", "1", "9223372036854775807"];
    assert_eq!(adder.answer(&overflow), "too-much");
    let refusal = adder.refusal(&["result", "too-much"], 1);
    assert!(refusal.contains("item 1: 9223372036854775807"), "{refusal}");
    assert_eq!(adder.answer(&["cancel", "too-much"]), "cancelled");
    let refusal = adder.refusal(&["result", "too-much"], 1);
    assert!(refusal.contains("was cancelled"), "{refusal}");
    strong.told_to_end("TERM");
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn a_signal_ends_a_worker_in_order() {
    let adder = Adder::provisioned(Tables::Ministack, &SOON);
    for signal in ["TERM", "INT"] {
        let workers = ["times_two", "sum"].map(|stage| adder.start(&["worker", "--stages", stage]));
        // Without either of them there is no result: both have worked.
        let run = adder.answer(&["submit"]);
        assert_eq!(adder.answer(&["result", &run]), "30");
        for worker in workers {
            let ended = worker.told_to_end(signal);
            assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
            assert!(ended.requests().contains("SQS ReceiveMessage"), "{ended:?}");
        }
    }
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn what_is_missing_is_said_in_a_line() {
    let mut adder = Adder::new(Tables::Ministack, &[]);
    let queue = format!("SQS queue `{}-times_two`", adder.name);
    let table = format!("DynamoDB table `{}-results`", adder.name);
    let scratchpad = format!("DynamoDB table `{}-scratchpad`", adder.name);
    for (command, missing) in [
        (["submit", "1"].as_slice(), &queue),
        (&["dead-letters"], &queue),
        (&["redrive", "none"], &scratchpad),
        (&["status", "none"], &table),
        (&["result", "none"], &table),
        (&["cancel", "none"], &table),
    ] {
        let refusal = adder.refusal(command, 1);
        assert!(refusal.contains(missing), "{refusal}");
        assert!(refusal.contains("provision"), "{refusal}");
    }
    for (arguments, problem) in [
        (["worker"].as_slice(), queue.as_str()),
        (
            &["worker", "--stages", "times_three"],
            "stage `times_three`",
        ),
    ] {
        // The library logs it as well.
        let worker = adder.run(arguments);
        assert_eq!(worker.status.code(), Some(1), "{worker:?}");
        let last = worker.err.lines().last().unwrap();
        assert!(
            last.starts_with("distributed: ") && last.contains(problem),
            "{worker:?}"
        );
    }

    adder.answer(&["provision"]);
    for command in ["status", "result", "cancel"] {
        let refusal = adder.refusal(&[command, "nobodys"], 1);
        assert!(refusal.contains("no run nobodys"), "{refusal}");
    }
    let refusal = adder.refusal(&["deprovision", "another"], 1);
    assert!(refusal.contains(&adder.name), "{refusal}");
    for (arguments, problem) in [
        (["--backend", "memory", "status", "x"].as_slice(), "memory"),
        (&["submit", "1", "two"], "two"),
        (&["1", "2"], "subcommand"),
        (&[], "subcommand"),
    ] {
        let refusal = adder.refusal(arguments, 2);
        assert!(refusal.contains(problem), "{refusal}");
    }

    adder.has_credentials = false;
    for command in [["provision"].as_slice(), &["submit", "1"], &["result", "x"]] {
        let refusal = adder.refusal(command, 1);
        assert!(refusal.contains("no credentials"), "{refusal}");
    }
    adder.has_credentials = true;
}
