use std::net::{Ipv4Addr, Ipv6Addr};

use pnet::packet::Packet;
use pnet::packet::icmpv6::ndp::NeighborSolicitPacket;
use pnet::packet::icmpv6::{self, Icmpv6Packet};
use proptest::prelude::*;

use super::super::wire::*;

const OURS: Mac = [2, 0, 0, 0, 0, 1];
const THEIRS: Mac = [2, 0, 0, 0, 0, 2];

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

/// An advertisement as a kernel sends it.
fn advertisement(target: Ipv6Addr, destination: Ipv6Addr, flags: u8, options: &[u8]) -> Vec<u8> {
    let source = v6("fe80::2");
    let mut icmp = vec![136, 0, 0, 0, flags, 0, 0, 0];
    icmp.extend(target.octets());
    icmp.extend(options);
    let mut bytes = vec![0x60, 0, 0, 0, 0, icmp.len() as u8, 58, 255];
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    let sum = icmpv6::checksum(&Icmpv6Packet::new(&icmp).expect("long enough"), &source, &destination);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(icmp);
    bytes
}

fn with_mac(mac: Mac) -> Vec<u8> {
    let mut option = vec![2, 1];
    option.extend(mac);
    option
}

fn reply(sender: Mac, address: Ipv4Addr) -> [u8; ARP_LEN] {
    let mut bytes = arp_request(sender, address, Ipv4Addr::new(10, 0, 0, 1));
    bytes[7] = 2;
    bytes
}

#[test]
fn an_arp_request_has_the_bytes_of_rfc_826() {
    let bytes = arp_request(OURS, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let expected = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2, //
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn replies_and_gratuitous_requests_claim_their_senders_address() {
    let address = Ipv4Addr::new(10, 0, 0, 2);
    let claim = Some(Claim { address: address.into(), mac: Some(THEIRS) });
    assert_eq!(parse_arp(&reply(THEIRS, address)), claim);
    assert_eq!(parse_arp(&arp_request(THEIRS, address, address)), claim);
    let mut padded = reply(THEIRS, address).to_vec();
    padded.resize(46, 0);
    assert_eq!(parse_arp(&padded), claim, "as short frames are");
}

#[test]
fn arp_that_claims_nothing_is_ignored() {
    let address = Ipv4Addr::new(10, 0, 0, 2);
    assert_eq!(parse_arp(&reply(THEIRS, Ipv4Addr::UNSPECIFIED)), None, "an address probe");
    assert_eq!(parse_arp(&reply(BROADCAST, address)), None);
    assert_eq!(parse_arp(&reply([0; 6], address)), None);
    for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3)] {
        let mut bytes = reply(THEIRS, address);
        bytes[at] = value;
        assert_eq!(parse_arp(&bytes), None, "byte {at}");
    }
}

#[test]
fn a_solicitation_is_valid_to_its_receiver() {
    let (source, target) = (v6("fe80::1"), v6("2001:db8::2:3"));
    let group = solicited_node(target);
    let bytes = neighbour_solicitation(OURS, source, target, group);
    assert_eq!(bytes[..8], [0x60, 0, 0, 0, 0, 32, 58, 255]);
    assert_eq!(bytes[8..24], source.octets());
    assert_eq!(bytes[24..40], group.octets());
    assert_eq!(bytes[40..42], [135, 0]);
    assert_eq!(bytes[64..], [1, 1, 2, 0, 0, 0, 0, 1]);
    let icmp = Icmpv6Packet::new(&bytes[40..]).expect("long enough");
    assert_eq!(icmp.get_checksum(), icmpv6::checksum(&icmp, &source, &group));
    let solicitation = NeighborSolicitPacket::new(icmp.packet()).expect("long enough");
    assert_eq!(solicitation.get_target_addr(), target);
}

#[test]
fn groups_are_those_of_the_rfcs() {
    let group = solicited_node(v6("2001:db8::01:800e:8c6c"));
    assert_eq!(group, v6("ff02::1:ff0e:8c6c"));
    assert_eq!(multicast_mac(group), [0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]);
}

#[test]
fn an_advertisement_claims_its_target() {
    let target = v6("2001:db8::2");
    let claim = |mac| Some(Claim { address: target.into(), mac });
    let solicited = advertisement(target, v6("fe80::1"), 0x60, &with_mac(THEIRS));
    assert_eq!(parse_advertisement(&solicited), claim(Some(THEIRS)));
    let unsolicited = advertisement(target, v6("ff02::1"), 0x20, &with_mac(THEIRS));
    assert_eq!(parse_advertisement(&unsolicited), claim(Some(THEIRS)));
    let bare = advertisement(target, v6("fe80::1"), 0x40, &[]);
    assert_eq!(parse_advertisement(&bare), claim(None), "the answer to a unicast solicitation");
    let mut after_nonce = vec![14, 1, 0, 0, 0, 0, 0, 0];
    after_nonce.extend(with_mac(THEIRS));
    assert_eq!(
        parse_advertisement(&advertisement(target, v6("fe80::1"), 0x40, &after_nonce)),
        claim(Some(THEIRS))
    );
}

#[test]
fn invalid_advertisements_are_ignored() {
    let (target, us) = (v6("2001:db8::2"), v6("fe80::1"));
    let good = advertisement(target, us, 0x60, &with_mac(THEIRS));
    for (at, value, why) in [
        (7, 64, "crossed a router"),
        (0, 0x40, "not IPv6"),
        (6, 17, "not ICMPv6"),
        (40, 135, "not an advertisement"),
        (41, 1, "code"),
        (42, 0, "checksum"),
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert_eq!(parse_advertisement(&bytes), None, "{why}");
    }
    let refused = |target, destination, flags, options: &[u8]| {
        assert_eq!(parse_advertisement(&advertisement(target, destination, flags, options)), None);
    };
    refused(v6("ff02::1"), us, 0x60, &with_mac(THEIRS));
    refused(target, v6("ff02::1"), 0x60, &with_mac(THEIRS));
    refused(target, v6("ff02::1"), 0x20, &[]);
    refused(target, us, 0x60, &[2, 0, 0, 0, 0, 0, 0, 0]);
    refused(target, us, 0x60, &[2, 32, 0, 0, 0, 0, 0, 0]);
    refused(target, us, 0x60, &[2]);
    refused(target, us, 0x60, &with_mac(BROADCAST));
}

#[test]
fn no_beginning_of_a_packet_panics() {
    let advertisement = advertisement(v6("2001:db8::2"), v6("fe80::1"), 0x60, &with_mac(THEIRS));
    let reply = reply(THEIRS, Ipv4Addr::new(10, 0, 0, 2));
    for end in 0..advertisement.len() {
        assert_eq!(parse_advertisement(&advertisement[..end]), None, "{end} bytes");
    }
    for end in 0..reply.len() {
        assert_eq!(parse_arp(&reply[..end]), None, "{end} bytes");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        parse_arp(&bytes);
        parse_advertisement(&bytes);
    }

    #[test]
    fn garbage_in_the_options_never_panics(options in proptest::collection::vec(any::<u8>(), 0..160)) {
        parse_advertisement(&advertisement(v6("2001:db8::2"), v6("fe80::1"), 0x60, &options));
    }
}

#[test]
fn an_arp_announcement_has_the_bytes_of_rfc_5227() {
    let bytes = gratuitous_arp(OURS, Ipv4Addr::new(10, 0, 0, 1));
    let expected = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1, //
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn an_unsolicited_advertisement_overrides_and_claims_its_own_source() {
    let address = v6("2001:db8::1");
    for (router, flags) in [(false, 0x20), (true, 0xa0)] {
        for destination in [ALL_NODES, v6("2001:db8::9")] {
            let bytes = unsolicited_advertisement(OURS, address, destination, router);
            let claim = Claim { address: address.into(), mac: Some(OURS) };
            assert_eq!(parse_advertisement(&bytes), Some(claim));
            let headers = etherparse::Ipv6HeaderSlice::from_slice(&bytes).expect("an IPv6 header");
            assert_eq!((headers.source_addr(), headers.destination_addr()), (address, destination));
            assert_eq!((headers.hop_limit(), headers.payload_length()), (255, 32));
            let body = etherparse::Icmpv6Slice::from_slice(&bytes[40..]).expect("ICMPv6");
            assert!(body.is_checksum_valid(headers.source(), headers.destination()));
            assert_eq!((body.type_u8(), body.code_u8(), body.bytes5to8()), (136, 0, [flags, 0, 0, 0]));
        }
    }
}
