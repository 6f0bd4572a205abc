//! What a side counted.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one thread.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Names and values.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// Adds those of another thread; a maximum is that of both.
            pub fn merge(&mut self, other: &Self) {
                let buffer = self.udp_receive_buffer_bytes_max;
                $(self.$name += other.$name;)*
                let other = other.udp_receive_buffer_bytes_max;
                self.udp_receive_buffer_bytes_max = buffer.max(other);
            }
        }
    };
}

counters! {
    /// Connections made or accepted.
    tcp_connections,
    /// Reads that gave something.
    tcp_reads,
    /// Writes that took something.
    tcp_writes,
    /// Writes that found the socket full.
    tcp_writes_blocked,
    /// Connections closed because what came on them was no frame.
    tcp_not_ours,
    /// Connections that ended within a request.
    tcp_cut_requests,
    /// Responses to nothing that was asked.
    tcp_unknown_responses,
    /// Datagrams.
    udp_datagrams_sent,
    /// Datagrams.
    udp_datagrams_received,
    /// Datagrams that tell how much of a message is there.
    udp_credits_sent,
    /// Sends that found the socket full.
    udp_sends_blocked,
    /// Sends that the kernel refused for another reason.
    udp_sends_failed,
    /// Datagrams of other programs, or damaged ones.
    udp_not_ours,
    /// Datagrams of RPCs that had failed before.
    udp_late_datagrams,
    /// Requests dropped because too many were under way.
    udp_requests_dropped,
    /// Messages of which a part was lost or not fetched.
    udp_messages_forgotten,
    /// What the kernel granted for receiving, of one socket.
    udp_receive_buffer_bytes_max,
}
