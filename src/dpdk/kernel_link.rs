//! The links of the kernel's interfaces, which the drivers that use them do not ask about.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use super::DeviceSpec;
use super::error::Error;

/// Whether packets can pass, as far as the kernel knows: always, except over an interface of its own that is
/// down, has no carrier, or is gone.
pub(super) fn is_up(spec: &DeviceSpec) -> Result<bool, Error> {
    let (DeviceSpec::AfPacket { interface, .. } | DeviceSpec::AfXdp { interface, .. }) = spec
    else {
        return Ok(true);
    };
    let flags = flags(interface)
        .map_err(|error| Error::device(spec, format!("cannot ask for its link: {error}")))?;
    let needed = libc::IFF_UP | libc::IFF_RUNNING;
    Ok(flags & needed == needed)
}

/// The flags of an interface, 0 if there is none of that name. Asked of the kernel and not of /sys, which
/// shows another network namespace when the process has changed its own.
fn flags(interface: &str) -> io::Result<i32> {
    // Any kind of socket will do.
    let socket = UnixDatagram::unbound()?;
    // SAFETY: the structure consists of numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let (name, bytes) = (&mut request.ifr_name, interface.as_bytes());
    if bytes.len() >= name.len() {
        return Ok(0);
    }
    for (to, &from) in name.iter_mut().zip(bytes) {
        *to = from as libc::c_char;
    }
    // SAFETY: the socket is open and the structure is the one of this request; its name ends in zeros.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &mut request) } == 0 {
        // SAFETY: the request has filled in the flags.
        return Ok(unsafe { request.ifr_ifru.ifru_flags }.into());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENODEV) => Ok(0),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(text: &str) -> bool {
        is_up(&text.parse().expect("a device")).expect("the kernel says")
    }

    #[test]
    fn interfaces_that_are_not_there_have_no_link() {
        assert!(!up("af_packet:nosuchif0"));
        assert!(!up("af_xdp:nosuchif0"));
        assert!(up("ring") && up("null"), "not of the kernel");
    }
}
