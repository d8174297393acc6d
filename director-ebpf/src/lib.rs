//! The contract between the XDP program and userspace, and the packet code that needs no kernel: the layout of every map
//! ([`abi`]), the flow table's words ([`flowword`]), its keyed hash ([`hash`]), TCP's states as one direction shows them
//! ([`state`]), checksums ([`checksum`]) and headers as views of bytes ([`packet`]). Apart from
//! these, the probes' programs and their maps ([`probe`]). And, for the bench alone, what its harness is told ([`harness`]).
//!
//! All of it is `no_std`, compiled into the BPF program and into the daemon, and tested on the host.
#![no_std]

pub mod abi;
pub mod checksum;
pub mod flowword;
pub mod harness;
pub mod hash;
pub mod packet;
pub mod probe;
pub mod state;
