//! After a reduction there is one value. `flat_map` makes items of it, which can be reduced again.

use catchment::Pipeline;

fn main() {
    let _ = Pipeline::new()
        .map(|n: i64| n * 2)
        .reduce(|| 0, |sum, n| sum + n)
        .reduce(|| 0, |sum, n| sum + n);
}
