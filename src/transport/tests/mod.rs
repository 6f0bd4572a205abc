//! Tests of whole transports.

mod acks;
mod client_matrix;
mod endings;
mod granting;
mod incast;
mod lasting;
mod limits;
mod odd_input;
mod onward;
mod random;
mod recovery;
mod sending;
mod server_matrix;
mod sharing;
mod solo;
mod through;
mod two_endpoints;
