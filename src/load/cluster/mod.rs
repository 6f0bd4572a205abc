//! One load on many hosts: a coordinator, and an agent on each host.
//!
//! Agents connect to the coordinator over ordinary TCP and introduce themselves ([`protocol`]). When all
//! are there, each gets its rank, the list of hosts and the load, and starts its node. Two barriers
//! follow: all nodes are up; all have had an answer from those that they will send to. Then the load
//! begins everywhere, within the time that a small message takes on the control network; the warm-up
//! hides the rest. Every host measures by its own clock, and no clock is compared with another.
//! When all have finished, all are told to stop, and their histograms are added up ([`outcome`]).
//!
//! A host is lost when its connection closes, as it does when its process ends, or when nothing was heard
//! of it for a while. Before the load has begun that ends the run; later the others go on, and the
//! report names what is missing.
//!
//! ```text
//! agent         hello       alive...  up        ready      finished       result
//! coordinator         assign       greet     start     ...          stop
//! ```

pub mod agent;
pub mod coordinator;
pub mod inventory;
pub mod outcome;
pub mod protocol;
