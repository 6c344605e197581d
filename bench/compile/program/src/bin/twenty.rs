//! Twenty maps in a row: twenty closures, each a type of its own, over values of six types.

use catchment::Pipeline;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    value: f64,
}

#[tokio::main]
async fn main() -> Result<(), catchment::Error> {
    let pipeline = Pipeline::new()
        .map(|n: u64| n + 1)
        .map(|n| n * 3)
        .map(|n| n ^ 5)
        .map(|n| n % 1_000)
        .map(|n| n as f64)
        .map(|x| x / 2.0)
        .map(|x| x + 0.25)
        .map(|x| x.abs())
        .map(|value| Reading {
            sensor: format!("sensor-{}", value as u64 % 8),
            value,
        })
        .map(|reading| Reading {
            value: reading.value * 4.0,
            ..reading
        })
        .map(|reading| Reading {
            sensor: reading.sensor.to_uppercase(),
            ..reading
        })
        .map(|reading| (reading.sensor, reading.value as i64))
        .map(|(sensor, value)| (sensor, value - 1))
        .map(|(sensor, value)| (sensor, value.rem_euclid(100)))
        .map(|(sensor, value)| format!("{sensor}={value}"))
        .map(|text| text.replace('=', " = "))
        .map(|text| text.trim().to_owned())
        .map(|text| text.into_bytes())
        .map(|bytes| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>())
        .map(|sum| sum.rotate_left(1))
        .reduce(|| 0, |sum: u64, n| sum.wrapping_add(n));
    println!("{}", pipeline.run(1..=1_000_u64).await?);
    Ok(())
}
