//! The XDP program, and the probes' programs, under BPF_PROG_TEST_RUN: packets in, verdicts, packets and counters out. Root
//! only; no interface is touched.

mod direct;
mod flood;
mod fragments;
mod guard;
mod icmp;
mod judge;
mod life;
mod nat;
mod packet;
mod pass;
mod persist;
mod probes;
mod race;
mod random;
mod refuse;
mod rig;
mod room;
mod schedule;
mod traffic;
