//! What only drivers know: their names, queues, offloads, and what they can do of XDP.

use std::os::fd::{AsRawFd, OwnedFd};

use rtnetlink::sys::Socket;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, socket};
use std::time::Duration;

use super::super::facts::Abilities;

/// From linux/sockios.h and linux/ethtool.h.
const SIOCETHTOOL: u64 = 0x8946;
const GET_DRIVER: u32 = 0x03;
const GET_FLAGS: u32 = 0x25;
const GET_CHANNELS: u32 = 0x3c;
const GET_STRINGS: u32 = 0x1b;
const GET_SET_SIZE: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
/// The set of strings that names features: ETH_SS_FEATURES.
const FEATURES: u32 = 4;
/// The most features that there is room for, and how many 32 bits words a name has. Kernels have about 64.
const MOST_FEATURES: usize = 256;
const NAME_WORDS: usize = 8;
const FLAG_LRO: u32 = 1 << 15;
const FLAG_RXVLAN: u32 = 1 << 8;

/// Questions by `SIOCETHTOOL`.
pub(super) struct Ethtool(OwnedFd);

impl Ethtool {
    pub(super) fn open() -> Option<Ethtool> {
        socket(AddressFamily::INET, SocketType::DGRAM, None).ok().map(Ethtool)
    }

    /// The driver's name.
    pub(super) fn driver(&self, interface: &str) -> Option<String> {
        // struct ethtool_drvinfo: the command, then the name in 32 bytes.
        let words: [u32; 49] = self.query(interface, GET_DRIVER)?;
        text(&words[1..9])
    }

    /// Receive queues, and the most that there can be.
    pub(super) fn queues(&self, interface: &str) -> Option<(u32, u32)> {
        // struct ethtool_channels: the most of receive, transmit, other, combined; then how many there are, in the same order.
        let [_, most_rx, _, _, most_combined, rx, _, _, combined]: [u32; 9] =
            self.query(interface, GET_CHANNELS)?;
        let most = if combined > 0 { most_combined } else { most_rx };
        Some((rx + combined, most))
    }

    /// Whether there is large receive offload; whether VLAN tags are taken off.
    pub(super) fn offloads(&self, interface: &str) -> (bool, bool) {
        let [_, flags]: [u32; 2] = self.query(interface, GET_FLAGS).unwrap_or_default();
        (flags & FLAG_LRO != 0, flags & FLAG_RXVLAN != 0)
    }

    /// Whether a feature is on; `None`: the kernel does not know it.
    pub(super) fn feature(&self, interface: &str, feature: &str) -> Option<bool> {
        // struct ethtool_sset_info: the command, a reserved word, a mask of the sets in two words, then their sizes.
        let [_, _, _, _, count] = self.fill(interface, [GET_SET_SIZE, 0, 1 << FEATURES, 0, 0])?;
        // There has to be room for all of them: the kernel writes as many as it has.
        let count = usize::try_from(count).ok().filter(|count| *count <= MOST_FEATURES)?;
        // struct ethtool_gstrings: the command, the set, how many, then the names.
        let mut words = [0; 3 + MOST_FEATURES * NAME_WORDS];
        (words[0], words[1]) = (GET_STRINGS, FEATURES);
        let words = self.fill(interface, words)?;
        let mut names = words[3..].chunks(NAME_WORDS).take(count);
        let bit = names.position(|name| text(name).as_deref() == Some(feature))?;
        // struct ethtool_gfeatures: the command, how many blocks there is room for, then blocks of 32 features, each of four words:
        // those that can be changed, those that are asked for, those that are on, those that never change.
        let mut words = [0; 2 + MOST_FEATURES / 32 * 4];
        (words[0], words[1]) = (GET_FEATURES, (MOST_FEATURES / 32) as u32);
        let words = self.fill(interface, words)?;
        Some(words[2 + bit / 32 * 4 + 2] >> (bit % 32) & 1 == 1)
    }

    /// Asks for a structure of `N` words that begins with the command.
    fn query<const N: usize>(&self, interface: &str, command: u32) -> Option<[u32; N]> {
        let mut words = [0; N];
        words[0] = command;
        self.fill(interface, words)
    }

    /// Has the kernel fill in a structure of `N` words.
    fn fill<const N: usize>(&self, interface: &str, mut words: [u32; N]) -> Option<[u32; N]> {
        let mut name = [0; libc::IFNAMSIZ];
        if interface.len() >= name.len() {
            return None;
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        let ifru_data = words.as_mut_ptr().cast();
        let mut request =
            libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data } };
        // SAFETY: the request and what it points to live until the call returns; the kernel writes as much as the command's
        // structure has, which is at most `N` words for each caller here.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
        (result == 0).then_some(words)
    }
}

/// A string in words; `None` where it is empty.
fn text(words: &[u32]) -> Option<String> {
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0).collect();
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

/// Protocol number and names of generic netlink (linux/netlink.h, linux/genetlink.h, linux/netdev.h).
const NETLINK_GENERIC: isize = 16;
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const DEVICE_GET: u8 = 1;
const DEVICE_IFINDEX: u16 = 1;
const DEVICE_XDP_FEATURES: u16 = 3;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
/// Headers of a message: struct nlmsghdr and struct genlmsghdr.
const HEADERS: usize = 20;

const BASIC: u64 = 1;
const RX_SG: u64 = 32;

/// What drivers can do of XDP: the family `netdev` of generic netlink, which kernels have from 6.3 on.
pub(super) struct XdpFeatures {
    socket: Socket,
    family: u16,
}

impl XdpFeatures {
    pub(super) fn open() -> Option<XdpFeatures> {
        let mut socket = Socket::new(NETLINK_GENERIC).ok()?;
        socket.bind_auto().ok()?;
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(1))).ok()?;
        let answer = ask(&socket, CONTROL, GET_FAMILY, FAMILY_NAME, b"netdev\0")?;
        let family = u16::from_ne_bytes(attribute(&answer, FAMILY_ID)?.get(..2)?.try_into().ok()?);
        Some(XdpFeatures { socket, family })
    }

    /// What the driver of an interface can do.
    pub(super) fn of(&self, index: u32) -> Option<Abilities> {
        let answer = ask(&self.socket, self.family, DEVICE_GET, DEVICE_IFINDEX, &index.to_ne_bytes())?;
        let features =
            u64::from_ne_bytes(attribute(&answer, DEVICE_XDP_FEATURES)?.get(..8)?.try_into().ok()?);
        let can = |what: u64| features & what != 0;
        Some(Abilities { native: can(BASIC), fragments: can(RX_SG) })
    }
}

/// Asks with one attribute, and gives the attributes of the answer.
fn ask(socket: &Socket, kind: u16, command: u8, attribute: u16, value: &[u8]) -> Option<Vec<u8>> {
    let length = HEADERS + 4 + value.len().next_multiple_of(4);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length, 0);
    socket.send(&bytes, 0).ok()?;
    let mut answer = Vec::with_capacity(16 << 10);
    socket.recv(&mut answer, 0).ok()?;
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let length = u32::from_ne_bytes(answer.get(..4)?.try_into().ok()?) as usize;
    if kind == ERROR {
        return None;
    }
    answer.get(HEADERS..length.min(answer.len())).map(<[u8]>::to_vec)
}

/// The value of an attribute.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let its = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        if its == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_known_by_their_names() {
        let ethtool = Ethtool::open().unwrap();
        assert_eq!(ethtool.feature("lo", "loopback"), Some(true), "it cannot be switched off");
        assert_eq!(ethtool.feature("lo", "rx-gro-hw"), Some(false), "there is no card");
        assert_eq!(ethtool.feature("lo", "rx-gro-by-magic"), None);
        assert_eq!(ethtool.feature("no-such-interface", "loopback"), None);
    }

    #[test]
    fn attributes_are_found_and_broken_ones_are_none() {
        let bytes = [5, 0, 1, 0, 9, 0, 0, 0, 6, 0, 2, 0, 7, 8, 0, 0];
        assert_eq!(attribute(&bytes, 1), Some(&[9][..]));
        assert_eq!(attribute(&bytes, 2), Some(&[7, 8][..]));
        assert_eq!(attribute(&bytes, 3), None);
        assert_eq!(attribute(&bytes[..3], 1), None);
        assert_eq!(attribute(&[0; 8], 1), None, "no attribute is shorter than its header");
        assert_eq!(attribute(&[200, 0, 1, 0], 1), None);
    }
}
