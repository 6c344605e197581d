//! The adder's example programs as processes: started, watched, and ended in order or killed.
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
    pub(crate) has_credentials: bool,
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
    pub(crate) fn requests(&self) -> &str {
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
