//! Workloads, recording and reports of the load generator.
#![forbid(unsafe_code)]

pub mod arrival;
pub mod classes;
pub mod generator;
pub mod payload;
pub mod quantity;
#[cfg(feature = "cli")]
pub mod recorder;
pub mod slowdown;
pub mod workload;
