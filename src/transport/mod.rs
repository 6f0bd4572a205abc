//! The Homa protocol of one shard, sans-IO.
#![forbid(unsafe_code)]
