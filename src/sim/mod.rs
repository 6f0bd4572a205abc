//! A deterministic cluster that runs the transport of this library.
//!
//! Discrete events, one thread, one seed: two runs of the same settings are equal bit for bit, which
//! [`Summary::trace_hash`] shows. Hosts hold a real [`Transport`](crate::transport::Transport); NICs,
//! links and switches with 8 strict priorities lie between them. Payload bytes are not moved unless
//! [`Contents`] asks for them.
//!
//! | file | holds |
//! |---|---|
//! | `config` | settings |
//! | `events` | what happens next |
//! | `packet` | packets and messages as sizes and identities |
//! | `fabric` | links, switches, routes |
//! | `host` | transports behind a NIC |
//! | `nic` | what transports send into |
//! | `shards` | the transports of a host, and what crosses between them |
//! | `cluster` | the loop over events, and what is offered |
//! | `observe` | what recorders and checkers are told |
//! | `incast` | many responses at once |
//! | `ideal` | times on an idle network |
//! | `levels` | cutoffs computed from a workload |
//! | `tally` | slowdowns by message size |
//! | `sigcomm18` | the set-up of the published simulations and their curves |
//! | `compare` | a run beside the published curves |
//! | `ablation` | what single settings are worth |
//! | `record` | what is kept of a run, and how it is drawn |
//! | `run_record` | a run as the load generator would report it |
//! | [`fuzz`] | fault simulation: random clusters and faults, and rules that must hold |
//!
//! Must not know DPDK, clocks or the machine it runs on.
//!
//! ```
//! use homa::load::workload::Workload;
//! use homa::sim::{Cluster, SimConfig};
//!
//! let config = SimConfig::default();
//! let workload = Workload::embedded("w2").expect("an embedded workload");
//! let mut cluster = Cluster::<()>::new(&config, &workload, 1e9, ())?;
//! let summary = cluster.run();
//! assert_eq!(summary.unfinished, 0);
//! # Ok::<(), homa::sim::SimError>(())
//! ```
#![forbid(unsafe_code)]

mod ablation;
mod cluster;
mod compare;
mod config;
mod events;
mod fabric;
pub mod fuzz;
mod host;
mod ideal;
mod incast;
mod levels;
mod nic;
mod observe;
mod packet;
mod receivers;
#[cfg(feature = "cli")]
mod record;
#[cfg(feature = "cli")]
mod run_record;
mod shards;
mod sigcomm18;
mod tally;

pub use ablation::{Ablation, SWITCHES, Switch};
pub use cluster::{Cluster, Sample, Summary, Traffic};
pub use compare::{Comparison, Line, Slowdown, Verdict, measured};
pub use config::{
    Buffer, Counted, Exchange, Framing, HomaConfig, HostConfig, NetworkConfig, Routing, SimConfig,
    SimError, TimeConfig,
};
pub use fabric::PacketCounts;
pub use incast::{Incast, IncastOutcome};
pub use levels::{Levels, levels};
pub use observe::{Delivery, Exchanged, Observer};
pub use packet::{Bytes, Contents, Outgoing, Piece};
#[cfg(feature = "cli")]
pub use record::{IncastRecord, Record};
#[cfg(feature = "cli")]
pub use run_record::RunRecord;
pub use shards::{Crossings, HostFaults};
pub use sigcomm18::{Curve, CurvePoint, PaperLoad, Sigcomm18};
pub use tally::{Bin, Tally};
