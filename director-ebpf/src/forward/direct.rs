//! Direct routing: the frame gets a new destination MAC, and ours as its source, or switches would learn the client's MAC at our
//! port. Nothing above Ethernet is touched.

use director_ebpf::abi::{Hop, Reason};
use director_ebpf::packet::Frame;

use crate::Verdict;
use crate::account;
use crate::forward::out;

/// Sends the frame on.
#[inline(always)]
pub fn send(frame: Frame, hop: Hop) -> Verdict {
    if !frame.store(0, hop[0]) || !frame.store(8, hop[1] as u32) {
        return account::drop(Reason::DropInternal);
    }
    out((hop[1] >> 32) as u32)
}
