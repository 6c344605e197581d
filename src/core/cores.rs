//! How much this machine does at once.

use std::sync::OnceLock;

/// Threads that this process can run at once. Asked for once: where there are control groups, several files are read.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
