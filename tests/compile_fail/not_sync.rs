//! Closures run side by side on many threads, so what they hold must be fit for that.

use std::cell::Cell;

use catchment::Pipeline;

fn main() {
    let seen = Cell::new(0);
    let _ = Pipeline::new().map(move |n: i64| {
        seen.set(seen.get() + 1);
        n
    });
}
