//! Workloads, recording and reports of the load generator.
#![forbid(unsafe_code)]

pub mod arrival;
pub mod generator;
pub mod payload;
pub mod quantity;
pub mod workload;
