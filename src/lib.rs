//! homa-dpdk: the Homa transport in user space.
//!
//! Layers, lowest first; a module imports only what stands above it in this list:
//!
//! - [`time`]: time as a value.
//! - [`addr`]: addresses of hosts.
//! - [`wire`]: Homa headers and bytes.
//! - [`transport`]: the protocol of one shard, sans-IO.
//! - [`net`]: the frames around Homa.
//! - `dpdk`: safe wrappers over DPDK (feature `dpdk`).
//! - `node`: shards on cores, the run-to-completion loop and the application API (feature `dpdk`).
//! - [`load`]: workloads, recording and reports of the load generator.
//! - [`sim`]: a simulated cluster that runs the same protocol code.

pub mod addr;
pub mod load;
pub mod net;
#[cfg(feature = "cli")]
pub mod report;
pub mod sim;
mod sync;
pub mod time;
pub mod transport;
pub mod wire;

#[cfg(feature = "dpdk")]
pub mod dpdk;
#[cfg(feature = "dpdk")]
pub mod node;

/// The program in the README is compiled with the examples of the documentation.
#[cfg(all(doctest, feature = "dpdk"))]
#[doc = include_str!("../README.md")]
struct Readme;
