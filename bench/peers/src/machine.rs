//! What this machine, this process and this build are.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

/// A line of `/proc/self/status`, in KiB.
pub(crate) fn memory(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.trim().strip_suffix("kB"))
        .with_context(|| format!("/proc/self/status has no {name}"))?
        .trim()
        .parse()
        .context(name.to_owned())
}

/// What this process has used, user and system time of all its threads: the sum that getrusage tells, more finely.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}

/// The lines on top of the tables.
pub(crate) fn describe() -> Result<Vec<String>> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("CPU", |value| value.trim_start_matches([' ', '\t', ':']));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let versions = versions()?
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect::<Vec<_>>();
    Ok(vec![
        format!("{cores} cores, {model}"),
        format!(
            "{}, {}",
            env!("PEERS_RUSTC"),
            time::OffsetDateTime::now_utc().date()
        ),
        versions.join(", "),
    ])
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// What this crate depends on, in the versions it was built with. Where a lock file has several of one crate, the
/// dependency names the version.
fn versions() -> Result<BTreeMap<String, String>> {
    const NO_PEERS: [&str; 5] = ["anyhow", "clap", "rustix", "time", "toml"];
    let lock: Lock = toml::from_str(include_str!("../Cargo.lock"))?;
    let of = |name: &str| {
        let package = lock.package.iter().find(|package| package.name == name);
        package.with_context(|| format!("Cargo.lock has no {name}"))
    };
    let mut versions = BTreeMap::new();
    for dependency in &of(env!("CARGO_PKG_NAME"))?.dependencies {
        let mut words = dependency.split(' ');
        let name = words.next().unwrap_or(dependency);
        let version = match words.next() {
            Some(version) => version.to_owned(),
            None => of(name)?.version.clone(),
        };
        if !NO_PEERS.contains(&name) {
            versions.insert(name.to_owned(), version);
        }
    }
    Ok(versions)
}
