//! TCP's life as a box sees it that may see the client's direction only (LVS-DR), in four states. The idle timeouts behind
//! them are IPVS's (net/netfilter/ipvs/ip_vs_proto_tcp.c, `tcp_timeouts`).

use crate::abi::{Service, proto};

/// Only SYNs (or one datagram) so far: first to give way when room is short.
pub const EMBRYONIC: u8 = 0;
/// The client answered (or sent a second datagram).
pub const ESTABLISHED: u8 = 1;
/// Somebody sent a FIN.
pub const CLOSING: u8 = 2;
/// Somebody sent a RST.
pub const CLOSED: u8 = 3;

/// TCP flag bits, as in the header's byte 13 (RFC 9293, 3.1).
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}

/// Whether a segment asks for a new connection: SYN without ACK, and neither of the flags that end one.
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN
}

/// Whether a SYN on a flow in this state starts a new one: its connection is over, so the client reuses its port (what IPVS's
/// `conn_reuse_mode=1` does, without the one second delay it had). On a live one the real server decides (RFC 5961).
#[inline(always)]
pub const fn reusable(state: u8) -> bool {
    state >= CLOSING
}

/// The state after a client's TCP segment.
#[inline(always)]
pub const fn after_client(state: u8, flags: u8) -> u8 {
    if state == EMBRYONIC && (flags & flag::RST != 0 || flags & flag::ACK == 0) {
        // What never was a connection cannot end: it stays the first to give way.
        EMBRYONIC
    } else if flags & flag::RST != 0 {
        CLOSED
    } else if flags & flag::FIN != 0 {
        if state == CLOSED { CLOSED } else { CLOSING }
    } else if flags & flag::SYN != 0 {
        state
    } else if state == EMBRYONIC || state == CLOSED {
        // A client that goes on after a RST never accepted it: it was forged, or outside the window (RFC 5961, 3).
        ESTABLISHED
    } else {
        state
    }
}

/// The state after a real server's TCP segment (seen under NAT only): it may end a connection, never establish one, since a
/// SYN's answer proves nothing about the client.
#[inline(always)]
pub const fn after_real(state: u8, flags: u8) -> u8 {
    if state == EMBRYONIC {
        EMBRYONIC
    } else if flags & flag::RST != 0 {
        CLOSED
    } else if flags & flag::FIN != 0 && state == ESTABLISHED {
        CLOSING
    } else {
        state
    }
}

/// Ticks without a packet after which a flow that ended may give way where room is short: stray retransmissions are over then.
const OVER_TICKS: u16 = 4;

/// Whether a flow has ended, and been quiet since.
#[inline(always)]
pub const fn is_over(state: u8, idle: u16) -> bool {
    reusable(state) && idle >= OVER_TICKS
}

/// A flow's idle timeout, in ticks.
#[inline(always)]
pub const fn timeout(service: &Service, protocol: u8, state: u8) -> u16 {
    if protocol == proto::UDP {
        return service.udp_ticks;
    }
    match state {
        EMBRYONIC => service.syn_ticks,
        ESTABLISHED => service.established_ticks,
        CLOSING => service.fin_ticks,
        _ => service.close_ticks,
    }
}

#[cfg(test)]
mod tests {
    use super::flag::*;
    use super::*;

    #[test]
    fn every_state_meets_every_segment() {
        // (segment, after EMBRYONIC, ESTABLISHED, CLOSING, CLOSED)
        let client = [
            (SYN, [EMBRYONIC, ESTABLISHED, CLOSING, CLOSED]),
            (ACK, [ESTABLISHED, ESTABLISHED, CLOSING, ESTABLISHED]),
            (FIN | ACK, [CLOSING, CLOSING, CLOSING, CLOSED]),
            (FIN, [EMBRYONIC, CLOSING, CLOSING, CLOSED]),
            (SYN | FIN, [EMBRYONIC, CLOSING, CLOSING, CLOSED]),
            (RST, [EMBRYONIC, CLOSED, CLOSED, CLOSED]),
            (RST | ACK, [EMBRYONIC, CLOSED, CLOSED, CLOSED]),
            (0, [EMBRYONIC, ESTABLISHED, CLOSING, ESTABLISHED]),
        ];
        for (flags, after) in client {
            for state in 0..4u8 {
                assert_eq!(after_client(state, flags), after[state as usize], "client {flags:#x} in {state}");
            }
        }
        let real = [
            (SYN | ACK, [EMBRYONIC, ESTABLISHED, CLOSING, CLOSED]),
            (ACK, [EMBRYONIC, ESTABLISHED, CLOSING, CLOSED]),
            (FIN | ACK, [EMBRYONIC, CLOSING, CLOSING, CLOSED]),
            (RST | ACK, [EMBRYONIC, CLOSED, CLOSED, CLOSED]),
        ];
        for (flags, after) in real {
            for state in 0..4u8 {
                assert_eq!(after_real(state, flags), after[state as usize], "real {flags:#x} in {state}");
            }
        }
    }

    #[test]
    fn only_a_plain_syn_opens() {
        assert!(opens(SYN) && opens(SYN | 0xc0));
        for flags in [0, ACK, SYN | ACK, SYN | RST, SYN | FIN, FIN, RST] {
            assert!(!opens(flags), "{flags:#x}");
        }
    }
}
