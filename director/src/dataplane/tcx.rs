//! What TCX holds at an interface: bpf(2), BPF_PROG_QUERY. The library asks the kernel for a descriptor of each program besides, and
//! that takes CAP_SYS_ADMIN, which the daemon gives up.

use std::io;

use aya::programs::TcAttachType;

/// `BPF_PROG_QUERY` (linux/bpf.h).
const PROG_QUERY: libc::c_int = 16;
/// `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS` (linux/bpf.h).
const INGRESS: u32 = 46;
const EGRESS: u32 = 47;
/// The most that one end of an interface holds (`BPF_MPROG_MAX`, linux/bpf_mprog.h).
const MOST: usize = 64;

/// The part of `union bpf_attr` that the query has.
#[repr(C)]
#[derive(Default)]
struct Query {
    interface: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The ids of the programs at one end of an interface of the caller's network namespace.
///
/// # Errors
/// The interface is not there, the kernel has no TCX, or the caller has no CAP_NET_ADMIN.
pub fn programs(interface: u32, end: TcAttachType) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; MOST];
    let mut query = Query {
        interface,
        attach_type: if matches!(end, TcAttachType::Egress) { EGRESS } else { INGRESS },
        program_ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Query::default()
    };
    // SAFETY: the kernel reads and writes no more of `query` than the size that it is told, and writes at most `count` ids to `ids`;
    // both live until it returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ids.into_iter().take(query.count as usize).collect())
}
