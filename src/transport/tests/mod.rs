//! Tests of whole transports.

mod two_endpoints;
