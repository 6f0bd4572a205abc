//! Workloads, recording and reports of the load generator.
//!
//! What offers the load and what reports it, without the transport between them:
//!
//! - [`workload`]: how long messages are; [`arrival`]: when they are due; [`payload`]: what is in them.
//! - [`generator`]: the client; says what is due and keeps the books.
//! - [`classes`], [`slowdown`]: what latency is sorted by and compared with.
//! - `recorder`, `report`, `live`, `dashboard`: latency as it is recorded and shown (feature `cli`).
//! - `metrics`: counters for Prometheus; `command_line`: completions, manual pages, logs (feature `cli`).
//! - `kernel`: the same load over the kernel's TCP and UDP (features `cli` and `dpdk`).
//! - `cluster`: one load on many hosts (feature `cli`).
//! - `ping`, `cp_node`: output and messages as of those programs (feature `cli`).
//! - `transports`: the same loads over several transports, side by side (feature `cli`).
//! - `windows`, `bench`: figures of a shared machine as ratios to a raw baseline (feature `cli`).
//! - [`pattern`]: who sends to whom; [`search`]: the highest load that is carried.
//! - `plan`: what to expect of a run; `baseline`: times of an idle system (feature `cli`).
//! - [`wire_cost`]: what messages take on the wire; [`response`]: how long responses are, and when they come.
//! - [`quantity`]: durations, sizes and rates as people write them.
//!
//! A client of a transport that answers at once:
//!
//! ```
//! use std::sync::Arc;
//!
//! use homa::load::arrival::{Arrival, Load};
//! use homa::load::generator::{End, Generator, GeneratorConfig, Outcome};
//! use homa::time::Nanos;
//!
//! let config = GeneratorConfig {
//!     workload: Arc::new("w3".parse()?),
//!     load: Load::Open { rate: "100k".parse()?, arrival: Arrival::Poisson, outstanding_max: 64 },
//!     start: Nanos::ZERO,
//!     warm_up: Nanos::from_ms(1),
//!     end: End::After(Nanos::from_ms(10)),
//!     drain: Nanos::from_ms(1),
//!     destinations: 1,
//! };
//! let mut generator = Generator::new(config, 42);
//! let mut now = Nanos::ZERO;
//! while !generator.is_finished(now) {
//!     while let Some(rpc) = generator.next(now) {
//!         generator.on_sent(now, rpc.cookie);
//!         let answer = Outcome::Response { size_bytes: rpc.size_bytes };
//!         generator.on_done(now + Nanos::from_us(5), rpc.cookie, answer);
//!     }
//!     now = now + Nanos::from_us(1);
//! }
//! let totals = generator.finish(now);
//! assert!(totals.sent > 800 && totals.completed == totals.sent);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(all(feature = "cli", feature = "dpdk"))]
pub mod apps;
pub mod arrival;
#[cfg(feature = "cli")]
pub mod baseline;
#[cfg(feature = "cli")]
pub mod bench;
pub mod classes;
#[cfg(feature = "cli")]
pub mod cluster;
#[cfg(feature = "cli")]
pub mod command_line;
#[cfg(feature = "cli")]
pub mod cp_node;
#[cfg(feature = "cli")]
pub mod dashboard;
#[cfg(feature = "cli")]
pub mod find_max;
pub mod generator;
#[cfg(all(feature = "cli", feature = "dpdk"))]
pub mod kernel;
#[cfg(feature = "cli")]
pub mod live;
#[cfg(feature = "cli")]
pub mod metrics;
pub mod pattern;
pub mod payload;
#[cfg(feature = "cli")]
pub mod ping;
#[cfg(feature = "cli")]
pub mod plan;
pub mod quantity;
#[cfg(feature = "cli")]
pub mod recorder;
#[cfg(feature = "cli")]
pub mod report;
pub mod response;
pub mod search;
pub mod slowdown;
#[cfg(feature = "cli")]
pub mod table;
#[cfg(feature = "cli")]
pub mod transports;
#[cfg(feature = "cli")]
pub mod windows;
pub mod wire_cost;
pub mod workload;
