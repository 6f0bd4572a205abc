//! Homa headers: any bytes are read without harm, and what was read is written to the same meaning.

use homa::wire::{Body, COMMON_HEADER_LEN, DataForm, MAX_HEADER_LEN, Packet, is_marked};

/// Takes `input` for a Homa packet.
pub fn run(input: &[u8]) {
    let _ = is_marked(input);
    let packet = match Packet::parse(input) {
        Ok(packet) => packet,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(input.len() >= COMMON_HEADER_LEN);
    assert!(input.len() >= packet.packet_type().min_len());
    let payload_bytes = match packet.body {
        Body::Data(_) => input.len() - packet.emitted_len(),
        _ => 0,
    };
    assert!(!packet.with_payload(payload_bytes).to_string().is_empty());
    for form in [DataForm::OURS, DataForm::LINUX] {
        let mut bytes = [0; MAX_HEADER_LEN];
        let length = packet.emit_as(form, &mut bytes);
        assert_eq!(length, packet.emitted_len());
        assert!(is_marked(&bytes));
        let again = Packet::parse(&bytes[..length]).expect("what we write can be read");
        match (again.body, packet.body) {
            // An offset of all ones stands for "see the sequence field".
            (Body::Data(again), Body::Data(data)) if data.offset == u32::MAX => {
                assert_eq!(again.message_length, data.message_length);
            }
            _ => assert_eq!(again, packet),
        }
    }
}
