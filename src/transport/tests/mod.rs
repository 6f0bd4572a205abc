//! Tests of whole transports.

mod acks;
mod client_matrix;
mod endings;
mod granting;
mod limits;
mod odd_input;
mod random;
mod recovery;
mod sending;
mod server_matrix;
mod solo;
mod two_endpoints;
