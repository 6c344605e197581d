//! The tokio runtime that a call needs.

use std::panic::{catch_unwind, resume_unwind};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::error::{Error, Result};

/// Checks that the caller is inside of a tokio runtime that has timers.
///
/// Tokio cannot be asked for the latter. So a timer is made, which is cheap, and panics if there are none: then the panic
/// hook prints tokio's own message before the caller gets the error.
///
/// # Errors
/// [`Error::NoRuntime`], which says what to do.
pub(crate) fn check() -> Result<()> {
    if Handle::try_current().is_err() {
        return Err(no_runtime(
            "it was called outside of a tokio runtime: await it in a function under `#[tokio::main]`, enter a runtime by `Runtime::block_on` or `Handle::enter`, or use `Pipeline::run_blocking`, which needs none",
        ));
    }
    let timer = || drop(tokio::time::sleep(Duration::ZERO));
    catch_unwind(timer).map_err(|_| {
        no_runtime("the tokio runtime has no timers: build it with `enable_time` or `enable_all`")
    })
}

/// A new runtime for a call that blocks its thread.
///
/// # Errors
/// [`Error::NoRuntime`] inside of a runtime, one of whose threads the call would block, and if the system refuses what a
/// runtime needs.
pub(crate) fn own() -> Result<tokio::runtime::Runtime> {
    if Handle::try_current().is_ok() {
        return Err(no_runtime(
            "a call that blocks its thread was made inside of a tokio runtime: await `Pipeline::run` there, in a stage's function by `then`",
        ));
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build();
    runtime.map_err(|error| no_runtime(&format!("a runtime could not be made: {error}")))
}

/// Fewer bytes are read where they are: to hand them to another thread would take as long.
pub(crate) const LARGE: usize = 64 * 1024;

/// Does work on this many bytes, and does it off the runtime's threads if they are more than [`LARGE`]. A panic in it is the
/// caller's.
pub(crate) async fn aside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match bytes <= LARGE {
        true => work(),
        false => joined(&mut tokio::task::spawn_blocking(work)).await,
    }
}

/// Waits for work on another thread. A panic in it is the caller's.
pub(crate) async fn joined<T>(work: &mut JoinHandle<T>) -> T {
    match work.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Nothing else aborts it than the end of the runtime, and of this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

fn no_runtime(problem: &str) -> Error {
    Error::NoRuntime {
        problem: problem.to_owned(),
    }
}
