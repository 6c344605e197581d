//! Between two stages lies a queue: what cannot be written and read back cannot travel.

use catchment::Pipeline;

struct Reading {
    celsius: f64,
}

fn main() {
    let _ = Pipeline::new().map(|celsius: f64| Reading { celsius });
}
