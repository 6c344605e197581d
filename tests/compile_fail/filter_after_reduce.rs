//! After a reduction there is one value, and nothing to choose from.

use catchment::Pipeline;

fn main() {
    let _ = Pipeline::new()
        .map(|n: i64| n * 2)
        .reduce(|| 0, |sum, n| sum + n)
        .filter(|sum| *sum > 10);
}
