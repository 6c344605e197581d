//! Files for tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use catchment::backends::sqlite::{SqliteFile, SqliteOptions, Synchronous};
use tempfile::TempDir;

/// A folder that is removed at the end of a test, with a file for a database.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("run.db")
    }

    /// The file on tokio's clock, without flushing to the disk, which simulated deaths do not need.
    pub(crate) fn simulated(&self) -> SqliteFile {
        let options = SqliteOptions::new().synchronous(Synchronous::Normal);
        options.tokio_clock().open(self.path()).unwrap()
    }
}

/// Longer than anything here may take, on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Looks until something is there, which another thread or process brings about.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begin.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tells a process that a test has started what it is to do.
const ROLE: &str = "CATCHMENT_TEST_ROLE";
/// …and in which file.
const FILE: &str = "CATCHMENT_TEST_FILE";

/// What this process is told, if a test has started it: its role and the file.
pub(crate) fn told() -> Option<(String, PathBuf)> {
    let role = std::env::var(ROLE).ok()?;
    Some((role, std::env::var_os(FILE).unwrap().into()))
}

/// A process that runs a test in a role. It is killed when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(test: &str, role: &str, file: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--include-ignored", "--nocapture"])
            .env(ROLE, role)
            .env(FILE, file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    pub(crate) fn succeeds(mut self, what: &str) {
        let status = until(what, || self.ended());
        assert!(status.success(), "{what}: {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
