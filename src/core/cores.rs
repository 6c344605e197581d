//! The number of cores.

use std::sync::OnceLock;

/// The number of threads that this process can run at once. Read once, because under control groups
/// the answer takes reading several files.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
