//! Tests of whole transports.

mod client_matrix;
mod odd_input;
mod server_matrix;
mod solo;
mod two_endpoints;
