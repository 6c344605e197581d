//! An operator combines two values of the pipeline's type to one of the same type.

use catchment::Pipeline;

fn main() {
    let _ = Pipeline::new()
        .map(|n: i64| n * 2)
        .reduce(|| 0, |sum, n| format!("{sum}{n}"));
}
