//! Workloads, recording and reports of the load generator.
#![forbid(unsafe_code)]

#[cfg(all(feature = "cli", feature = "dpdk"))]
pub mod apps;
pub mod arrival;
#[cfg(feature = "cli")]
pub mod bench;
pub mod classes;
pub mod generator;
#[cfg(feature = "cli")]
pub mod live;
pub mod payload;
pub mod quantity;
#[cfg(feature = "cli")]
pub mod recorder;
#[cfg(feature = "cli")]
pub mod report;
pub mod slowdown;
#[cfg(feature = "cli")]
pub mod table;
#[cfg(feature = "cli")]
pub mod windows;
pub mod workload;
