//! The frames around Homa.
#![forbid(unsafe_code)]
