//! Shared by both suites: running every scenario and reporting those that failed.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

/// Longer than any scenario takes, so that a backend that hangs fails the scenario.
const LIMIT: Duration = Duration::from_secs(300);

/// A scenario of a suite. [`run`](Self::run) panics if the backend breaks its contract.
pub struct Scenario {
    name: &'static str,
    run: BoxFuture<'static, ()>,
}

impl Scenario {
    pub(super) fn new(name: &'static str, run: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            name,
            run: run.boxed(),
        }
    }

    /// Its name, which is a sentence: `an_acknowledged_message_never_comes_back`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it.
    ///
    /// # Panics
    /// If the backend breaks its contract, with the scenario's name and what was expected.
    pub async fn run(self) {
        let name = self.name;
        if let Err(problem) = self.attempt().await {
            panic!("scenario `{name}`: {problem}");
        }
    }

    async fn attempt(self) -> Result<(), String> {
        let run = AssertUnwindSafe(self.run).catch_unwind();
        match tokio::time::timeout(LIMIT, run).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(panic)) => Err(message(panic.as_ref())),
            Err(_) => Err(format!("it did not end within {LIMIT:?}")),
        }
    }
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Scenario").field(&self.name).finish()
    }
}

/// Runs all scenarios in turn, even if some fail.
pub(super) async fn run_all(scenarios: Vec<Scenario>) {
    let count = scenarios.len();
    let mut problems = Vec::new();
    for scenario in scenarios {
        let name = scenario.name;
        if let Err(problem) = scenario.attempt().await {
            problems.push(format!("scenario `{name}`: {problem}"));
        }
    }
    assert!(
        problems.is_empty(),
        "{} of {count} scenarios failed:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}

/// Declares the scenarios of a suite by module, and the function that lists them in order. `$arguments` are passed to each
/// scenario, made of the list's parameters.
macro_rules! scenarios {
    (
        $(#[$meta:meta])*
        fn $list:ident $parameters:tt => $arguments:tt;
        $(mod $module:ident { $($name:ident,)+ })+
    ) => {
        $(
            mod $module;
            use $module::{$($name),+};
        )+

        $(#[$meta])*
        pub fn $list $parameters -> Vec<$crate::testing::Scenario> {
            vec![$($(
                $crate::testing::Scenario::new(stringify!($name), $name $arguments),
            )+)+]
        }
    };
}
pub(super) use scenarios;
