//! Tests of whole transports.

mod acks;
mod client_matrix;
mod endings;
mod odd_input;
mod recovery;
mod server_matrix;
mod solo;
mod two_endpoints;
