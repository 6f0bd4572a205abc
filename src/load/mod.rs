//! Workloads, recording and reports of the load generator.
#![forbid(unsafe_code)]
