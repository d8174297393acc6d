//! XDP programs given as instructions: the one that passes everything, for the switches' side of the director's links.
//!
//! A veth interface transmits from XDP (`XDP_TX`, and a redirect to it) only where its *peer* runs an XDP
//! program too; without one every such frame is dropped as an error. The program is attached by netlink, not by a BPF
//! link: it then lives and ends with the interface, and a lab outlives the process that made it without a pin.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netdevice};

/// Frames longer than about 3,500 bytes come in fragments: without the flag the kernel refuses at MTU 9000.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_XDP: u32 = 6;
/// `r0 = XDP_PASS; exit`.
pub const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
const LICENSE: &CStr = c"GPL";

const RTM_SETLINK: u16 = 19;
const NLM_F_REQUEST_ACK: u16 = 0x1 | 0x4;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// The part of `union bpf_attr` that loading a program reads; what the kernel knows beyond it counts as zero.
#[repr(C)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// Attaches a program natively to an interface of the calling thread's namespace, in place of what is there.
pub fn attach(instructions: &[u64], interface: &str) -> Result<()> {
    let program = load(instructions).context("cannot load an XDP program")?;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let index =
        netdevice::name_to_index(&socket, interface).with_context(|| format!("no interface {interface}"))?;
    set_program(&socket, index, &program).with_context(|| format!("cannot attach XDP to {interface}"))
}

fn load(instructions: &[u64]) -> Result<OwnedFd> {
    let attributes = LoadAttributes {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: BPF_F_XDP_HAS_FRAGS,
    };
    // SAFETY: the attributes, and the instructions and the string they point to, live until the call returns.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, size_of::<LoadAttributes>())
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the kernel has just given us this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn set_program(socket: &OwnedFd, index: u32, program: &OwnedFd) -> Result<()> {
    rustix::net::send(socket, &set_link_message(index, program.as_raw_fd()), SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (length, _) = rustix::net::recv(socket, &mut answer[..], RecvFlags::empty())?;
    ensure!(length >= 20, "a netlink answer of {length} bytes");
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    ensure!(kind == NLMSG_ERROR, "a netlink answer of type {kind}");
    if code != 0 {
        return Err(std::io::Error::from_raw_os_error(-code).into());
    }
    Ok(())
}

/// `struct nlmsghdr`, `struct ifinfomsg`, and `IFLA_XDP` with its two attributes.
fn set_link_message(index: u32, program: i32) -> Vec<u8> {
    const LENGTH: u32 = 16 + 16 + 4 + 8 + 8;
    let mut message = Vec::with_capacity(LENGTH as usize);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_SETLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]);
    for (length, kind) in [(20u16, IFLA_XDP | NLA_F_NESTED), (8, IFLA_XDP_FD)] {
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
    }
    message.extend(program.to_ne_bytes());
    message.extend(8u16.to_ne_bytes());
    message.extend(IFLA_XDP_FLAGS.to_ne_bytes());
    message.extend(XDP_FLAGS_DRV_MODE.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_as_long_as_it_says() {
        let message = set_link_message(7, 9);
        assert_eq!(message.len(), 52);
        assert_eq!(u32::from_ne_bytes(message[..4].try_into().unwrap()), 52);
        assert_eq!(message[20..24], 7u32.to_ne_bytes());
        assert_eq!(message[40..44], 9i32.to_ne_bytes());
    }
}
