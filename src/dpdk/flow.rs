//! Rules that a port sorts received packets by (`rte_flow`), where its driver has them.

use std::ffi::CStr;
use std::fmt::{self, Write};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use dpdk_sys as sys;

use super::error::{Error, errno_text};
use super::port::Owned;

/// Longest complaint of a driver that is kept.
const WHY_BYTES: usize = 128;

const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;
/// Version 4 and a header of five words.
const IPV4_VERSION_AND_LENGTH: u8 = 0x45;
const IPV6_VERSION: u8 = 0x60;

/// Packets of an IP protocol with certain bytes go to a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRule {
    /// The frame has a VLAN tag, whichever.
    pub has_vlan: bool,
    /// It carries IPv6, and not IPv4.
    pub is_ipv6: bool,
    /// The protocol of what follows the IP header.
    pub protocol: u8,
    /// The bytes from here on are looked at, counted from the end of the IP header.
    pub offset_bytes: u16,
    /// What these bytes are.
    pub spec: Vec<u8>,
    /// Which bits of them count: as many bytes.
    pub mask: Vec<u8>,
    /// Where such packets go.
    pub queue: u16,
}

/// How drivers want to be told which bytes of a packet matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowForm {
    /// Headers by name, and bytes behind the last of them.
    BehindHeaders,
    /// The bytes of a frame from its beginning, as text.
    WholeFrame,
}

impl FlowForm {
    const ALL: [Self; 2] = [Self::BehindHeaders, Self::WholeFrame];
}

impl fmt::Display for FlowForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BehindHeaders => "bytes behind the IP header",
            Self::WholeFrame => "bytes of the frame",
        })
    }
}

impl FlowRule {
    /// The same as bytes of a frame and a mask of equal length: the types of the headers, their
    /// lengths without options, and what lies behind them.
    fn whole_frame(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut spec, mut mask) = (vec![0; 12], vec![0; 12]);
        let mut push = |bytes: &[u8], counts: u8| {
            spec.extend_from_slice(bytes);
            mask.extend(bytes.iter().map(|_| counts));
        };
        if self.has_vlan {
            push(&ETHERTYPE_VLAN.to_be_bytes(), 0xff);
            push(&[0; 2], 0);
        }
        if self.is_ipv6 {
            push(&ETHERTYPE_IPV6.to_be_bytes(), 0xff);
            push(&[IPV6_VERSION, 0, 0, 0, 0, 0], 0);
            push(&[self.protocol], 0xff);
            push(&[0; 33], 0);
        } else {
            push(&ETHERTYPE_IPV4.to_be_bytes(), 0xff);
            push(&[IPV4_VERSION_AND_LENGTH], 0xff);
            push(&[0; 8], 0);
            push(&[self.protocol], 0xff);
            push(&[0; 10], 0);
        }
        push(&vec![0; self.offset_bytes.into()], 0);
        spec.extend_from_slice(&self.spec);
        mask.extend_from_slice(&self.mask);
        (spec, mask)
    }

    /// Asks the driver for the rule.
    fn create(&self, port: &Arc<Owned>, form: FlowForm) -> Result<Flow, Error> {
        if self.spec.len() != self.mask.len() {
            return Err(Error::Config(format!(
                "a rule with {} bytes and a mask of {}: give as many",
                self.spec.len(),
                self.mask.len()
            )));
        }
        let (spec, mask) = match form {
            FlowForm::BehindHeaders => (self.spec.clone(), self.mask.clone()),
            FlowForm::WholeFrame => {
                let (spec, mask) = self.whole_frame();
                (hexadecimal(&spec), hexadecimal(&mask))
            }
        };
        let too_long = |_| Error::Config(format!("a rule of {} bytes is too long", spec.len()));
        let length = u16::try_from(spec.len()).map_err(too_long)?;
        // Some drivers look for a NUL behind the text.
        let (spec, mask) = (ended(spec), ended(mask));
        let wanted = sys::homa_flow_match {
            spec: spec.as_ptr(),
            mask: mask.as_ptr(),
            length,
            offset: self.offset_bytes,
            whole_frame: (form == FlowForm::WholeFrame).into(),
            has_vlan: self.has_vlan.into(),
            is_ipv6: self.is_ipv6.into(),
            protocol: self.protocol,
        };
        let (mut raw, mut why) = (ptr::null_mut(), [0; WHY_BYTES]);
        // SAFETY: the port is open; the structure and both texts, as long as said, live during the
        // call, and there is room for the handle and the complaint.
        let rc = unsafe {
            sys::homa_flow_create(
                port.port_id,
                &wanted,
                self.queue,
                &mut raw,
                why.as_mut_ptr(),
                why.len(),
            )
        };
        match NonNull::new(raw) {
            Some(raw) if rc == 0 => Ok(Flow { raw, port: Arc::clone(port) }),
            _ => {
                // SAFETY: the shim ends the text with NUL within its room.
                let why = unsafe { CStr::from_ptr(why.as_ptr()) }.to_string_lossy();
                Err(Error::device(&port.spec, refusal(rc, &why)))
            }
        }
    }
}

/// What the driver has against a rule.
fn refusal(rc: i32, why: &str) -> String {
    if rc == -libc::ENOSYS || rc == -libc::ENOTSUP && why.is_empty() {
        return "the driver has no rules for received packets".to_owned();
    }
    let why = if why.is_empty() { String::new() } else { format!("{why}: ") };
    format!("the driver does not take the rule: {why}{}", errno_text(rc.saturating_neg()))
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into_bytes()
}

/// With a NUL behind it.
fn ended(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(0);
    bytes
}

/// All `rules`, in the first form that the driver takes them in; the complaint is that about the first
/// form.
pub(super) fn create_all(
    port: &Arc<Owned>,
    rules: &[FlowRule],
) -> Result<(FlowForm, Vec<Flow>), Error> {
    let mut complaint = None;
    for form in FlowForm::ALL {
        // Those that were taken before one was not go again here.
        match rules.iter().map(|rule| rule.create(port, form)).collect() {
            Ok(flows) => return Ok((form, flows)),
            Err(error) => complaint = complaint.or(Some(error)),
        }
    }
    Err(complaint.unwrap_or_else(|| Error::Config("no rules were given".into())))
}

/// A rule that the driver has taken. Gone when dropped.
#[derive(Debug)]
pub(super) struct Flow {
    raw: NonNull<sys::rte_flow>,
    port: Arc<Owned>,
}

// SAFETY: the handle is used once, to end the rule; DPDK lets any thread do that.
unsafe impl Send for Flow {}
// SAFETY: nothing can be done with a shared one.
unsafe impl Sync for Flow {}

impl Drop for Flow {
    fn drop(&mut self) {
        // SAFETY: the rule exists, and its port is open: the handle keeps it so.
        let rc = unsafe { sys::homa_flow_destroy(self.port.port_id, self.raw.as_ptr()) };
        if rc != 0 {
            log::warn!("removing a rule of port {}: {}", self.port.spec, errno_text(-rc));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> FlowRule {
        FlowRule {
            has_vlan: false,
            is_ipv6: false,
            protocol: 146,
            offset_bytes: 20,
            spec: vec![3, 0, 1],
            mask: vec![0xff, 0, 1],
            queue: 3,
        }
    }

    /// Whether a frame is one that the rule means.
    fn matches((spec, mask): &(Vec<u8>, Vec<u8>), frame: &[u8]) -> bool {
        assert_eq!(spec.len(), mask.len());
        let bits = spec.iter().zip(mask).zip(frame);
        frame.len() >= spec.len()
            && bits.into_iter().all(|((spec, mask), byte)| spec & mask == byte & mask)
    }

    fn frame(header: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xee; 120];
        frame[12..12 + header.len()].copy_from_slice(header);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    }

    #[test]
    fn a_rule_as_bytes_of_a_frame() {
        let pattern = rule().whole_frame();
        assert_eq!(pattern.0.len(), 14 + 20 + 20 + 3);
        // Behind addresses and type: version, 8 other bytes, the protocol.
        let header = [8, 0, 0x45, 9, 9, 9, 9, 9, 9, 9, 9, 146];
        let wanted = frame(&header, 54, &[3, 77, 0x55]);
        assert!(matches(&pattern, &wanted));
        assert!(!matches(&pattern, &frame(&header, 54, &[2, 77, 0x55])), "another shard");
        assert!(!matches(&pattern, &frame(&header, 54, &[3, 77, 0x54])), "the other role");
        let udp = [8, 0, 0x45, 9, 9, 9, 9, 9, 9, 9, 9, 17];
        assert!(!matches(&pattern, &frame(&udp, 54, &[3, 77, 0x55])));
        let options = [8, 0, 0x46, 9, 9, 9, 9, 9, 9, 9, 9, 146];
        assert!(!matches(&pattern, &frame(&options, 54, &[3, 77, 0x55])), "shifted by options");
        assert!(!matches(&pattern, &wanted[..50]));
    }

    #[test]
    fn tags_and_families_shift_the_bytes() {
        let tagged = FlowRule { has_vlan: true, ..rule() }.whole_frame();
        let header = [0x81, 0, 0x20, 5, 8, 0, 0x45, 9, 9, 9, 9, 9, 9, 9, 9, 146];
        assert!(matches(&tagged, &frame(&header, 58, &[3, 0, 1])));
        assert!(!matches(&tagged, &frame(&header[4..], 54, &[3, 0, 1])));
        let ipv6 = FlowRule { is_ipv6: true, ..rule() }.whole_frame();
        let header = [0x86, 0xdd, 0x6a, 1, 2, 3, 4, 5, 146];
        assert!(matches(&ipv6, &frame(&header, 74, &[3, 0, 1])));
        assert!(!matches(&ipv6, &frame(&header, 74, &[3, 0, 2])));
    }

    #[test]
    fn texts_end_with_nul_and_refusals_say_why() {
        assert_eq!(ended(hexadecimal(&[0, 0x9a, 0xff])), b"009aff\0");
        assert_eq!(refusal(-libc::ENOSYS, ""), "the driver has no rules for received packets");
        let text = refusal(-libc::EINVAL, "Not supported pattern");
        assert!(text.contains("Not supported pattern: Invalid argument (errno 22)"), "{text}");
    }
}
