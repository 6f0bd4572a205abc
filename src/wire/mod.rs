//! Homa headers and bytes.
#![forbid(unsafe_code)]
