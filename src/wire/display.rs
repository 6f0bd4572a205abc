//! One line per packet, for traces and error messages.

use core::fmt;

use super::{AckRecord, Body, Cutoffs, Data, Grant, Packet, Resend};

/// A packet together with the length of its payload, so that its line shows the whole range of a
/// DATA packet.
#[derive(Clone, Copy, Debug)]
pub struct WithPayload<'a> {
    packet: &'a Packet,
    payload_bytes: usize,
}

impl Packet {
    /// The packet with `payload_bytes` of payload, to be displayed: `12848..14272/50000` instead of
    /// `12848../50000`.
    pub const fn with_payload(&self, payload_bytes: usize) -> WithPayload<'_> {
        WithPayload { packet: self, payload_bytes }
    }

    fn write_line(&self, f: &mut fmt::Formatter<'_>, payload_bytes: Option<usize>) -> fmt::Result {
        let header = &self.header;
        write!(
            f,
            "{} {}->{} id={}",
            self.packet_type(),
            header.sport,
            header.dport,
            header.sender_id
        )?;
        match &self.body {
            Body::Data(data) => write_data(f, data, payload_bytes),
            Body::Grant(Grant { offset, priority }) => {
                write!(f, " offset={offset} prio={priority}")
            }
            Body::Resend(resend) => write_resend(f, resend),
            Body::Cutoffs(cutoffs) => write_cutoffs(f, cutoffs),
            Body::Ack(ack) => write_acks(f, ack.iter()),
            Body::RpcUnknown | Body::Busy | Body::Freeze | Body::NeedAck => Ok(()),
        }
    }
}

impl fmt::Display for Packet {
    /// One line; DATA shows where its payload starts. See [`Packet::with_payload`] for where it
    /// ends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_line(f, None)
    }
}

impl fmt::Display for WithPayload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packet.write_line(f, Some(self.payload_bytes))
    }
}

fn write_data(
    f: &mut fmt::Formatter<'_>,
    data: &Data,
    payload_bytes: Option<usize>,
) -> fmt::Result {
    write!(f, " {}..", data.offset)?;
    if let Some(payload_bytes) = payload_bytes {
        write!(f, "{}", u64::from(data.offset).saturating_add(payload_bytes as u64))?;
    }
    let Data { message_length, incoming, cutoff_version, .. } = data;
    write!(f, "/{message_length} incoming={incoming} cutoffs={cutoff_version}")?;
    if let Some(AckRecord { client_id, server_port }) = data.ack {
        write!(f, " ack={client_id}:{server_port}")?;
    }
    f.write_str(if data.retransmit { " retransmit" } else { "" })?;
    f.write_str(if data.incast { " incast" } else { "" })
}

fn write_resend(f: &mut fmt::Formatter<'_>, resend: &Resend) -> fmt::Result {
    let Resend { offset, length, priority } = *resend;
    match length {
        Resend::ALL => write!(f, " {offset}..all")?,
        _ => write!(f, " {offset}..{}", u64::from(offset) + u64::from(length))?,
    }
    match priority {
        Some(priority) => write!(f, " prio={priority}"),
        None => Ok(()),
    }
}

fn write_cutoffs(f: &mut fmt::Formatter<'_>, cutoffs: &Cutoffs) -> fmt::Result {
    for (priority, cutoff) in cutoffs.cutoffs.iter().enumerate() {
        write!(f, "{}{cutoff}", if priority == 0 { " " } else { "," })?;
    }
    write!(f, " version={}", cutoffs.version)
}

fn write_acks(f: &mut fmt::Formatter<'_>, records: impl Iterator<Item = AckRecord>) -> fmt::Result {
    for (index, AckRecord { client_id, server_port }) in records.enumerate() {
        write!(f, "{}{client_id}:{server_port}", if index == 0 { " acks=" } else { "," })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Ack, Header, HomaPort, RpcId};

    fn packet(body: Body) -> Packet {
        let header = Header { sport: HomaPort(4000), dport: HomaPort(32768), sender_id: RpcId(4) };
        Packet { header, body }
    }

    fn record(client_id: u64, server_port: u16) -> AckRecord {
        AckRecord { client_id: RpcId(client_id), server_port: HomaPort(server_port) }
    }

    #[test]
    fn data() {
        let mut data = Data {
            message_length: 50_000,
            incoming: 40_000,
            ack: Some(record(2, 4000)),
            cutoff_version: 1,
            retransmit: false,
            incast: false,
            offset: 12_848,
        };
        let first = packet(Body::Data(data));
        assert_eq!(
            first.with_payload(1424).to_string(),
            "DATA 4000->32768 id=4 12848..14272/50000 incoming=40000 cutoffs=1 ack=2:4000"
        );
        data.ack = None;
        data.retransmit = true;
        assert_eq!(
            packet(Body::Data(data)).to_string(),
            "DATA 4000->32768 id=4 12848../50000 incoming=40000 cutoffs=1 retransmit"
        );
    }

    #[test]
    fn control_packets() {
        let resend = |offset, length, priority| Body::Resend(Resend { offset, length, priority });
        let cutoffs = [0, 0, 0, 0, 1_000_000, 15_000, 2800, 200];
        let mut ack = Ack::new();
        ack.push(record(1200, 99));
        ack.push(record(1202, 4000));
        let cases = [
            (
                Body::Grant(Grant { offset: 140_000, priority: 3 }),
                "GRANT 4000->32768 id=4 offset=140000 prio=3",
            ),
            (resend(1424, 2848, Some(7)), "RESEND 4000->32768 id=4 1424..4272 prio=7"),
            (resend(0, Resend::ALL, Some(7)), "RESEND 4000->32768 id=4 0..all prio=7"),
            (resend(1424, 1424, None), "RESEND 4000->32768 id=4 1424..2848"),
            (resend(u32::MAX, 1, None), "RESEND 4000->32768 id=4 4294967295..4294967296"),
            (Body::RpcUnknown, "RPC_UNKNOWN 4000->32768 id=4"),
            (Body::Busy, "BUSY 4000->32768 id=4"),
            (
                Body::Cutoffs(Cutoffs { cutoffs, version: 1 }),
                "CUTOFFS 4000->32768 id=4 0,0,0,0,1000000,15000,2800,200 version=1",
            ),
            (Body::Freeze, "FREEZE 4000->32768 id=4"),
            (Body::NeedAck, "NEED_ACK 4000->32768 id=4"),
            (Body::Ack(Ack::new()), "ACK 4000->32768 id=4"),
            (Body::Ack(ack), "ACK 4000->32768 id=4 acks=1200:99,1202:4000"),
        ];
        for (body, line) in cases {
            assert_eq!(packet(body).to_string(), line);
        }
    }
}
