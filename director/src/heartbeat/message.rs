//! What directors tell each other, as data. How it looks on the wire is `wire`'s business.

use std::net::IpAddr;
use std::time::Duration;

/// A director or a group on the wire: the hash of its name. The configuration refuses names whose hashes are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u32);

impl Key {
    /// That of a name: FNV-1a, 32 bits.
    pub fn of(name: &str) -> Key {
        Key(name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)))
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's name.
    pub from: String,
    /// Tells one run of the sender from its earlier ones; later runs have higher numbers.
    pub incarnation: u64,
    /// Counts the messages of this run. Copies of a message on several links have the same number.
    pub sequence: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// How the sender is and what it does.
    Beat(Beat),
    /// Whom the sender knows on the VIPs' segments; at most [`MOST_NEIGHBOURS`].
    Neighbours(Vec<Neighbour>),
}

/// The most neighbours in a message.
pub const MOST_NEIGHBOURS: usize = 32;
/// The most groups in a beat.
pub const MOST_GROUPS: usize = 64;
/// The most directors, so the most acknowledgements and echoes in a beat.
pub const MOST_DIRECTORS: usize = 16;

/// How a director is and what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The hash of its configuration's text; the first 8 bytes of a SHA-256.
    pub config: u64,
    /// After how long a silence it counts as dead; on the wire in microseconds. Directors whose configurations differ for a while
    /// judge each by the longer time.
    pub dead_after: Duration,
    /// Its wall clock when it sent this, since 1970; on the wire in microseconds. Nothing is decided by it: clocks that differ are a
    /// thing for people to mend.
    pub clock: Duration,
    /// It is about to end: nothing more will come.
    pub leaving: bool,
    /// An operator has it stay standby.
    pub held: bool,
    /// The directors that it hears.
    pub acks: Vec<Ack>,
    /// What it last heard of others on the link that this copy travels by: for measuring.
    pub echoes: Vec<Echo>,
    /// What it does, group by group.
    pub groups: Vec<GroupBeat>,
}

/// A director that is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who.
    pub node: Key,
    /// Its run.
    pub incarnation: u64,
    /// Its newest message that was acted upon.
    pub sequence: u64,
}

/// A message that came by a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Whose.
    pub node: Key,
    /// Its number.
    pub sequence: u64,
    /// How long ago it came; on the wire in microseconds, at most about 71 minutes.
    pub waited: Duration,
}

/// What a director does for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBeat {
    /// Which.
    pub group: Key,
    /// What it is.
    pub role: Role,
    /// Of that role: every claim has a higher one than all before it.
    pub term: u64,
    /// It may hold the group.
    pub eligible: bool,
    /// It would rather not: it has given the group away on an operator's word.
    pub reluctant: bool,
    /// How well off it is.
    pub standing: Standing,
    /// What its configuration says of it for this group: the greater comes first, where nothing else decides.
    pub preference: u16,
    /// Whom it would have as owner, and of which term; with a quorum, it promises to have no other for a while.
    pub vote: Option<(Key, u64)>,
    /// Who shall have the group after it, of one that is [`Role::Yielding`]; and for a while after that, who has taken it.
    pub heir: Option<Key>,
}

/// What a director is for a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It does not hold it.
    #[default]
    Standby,
    /// It would hold it, if enough others agree.
    Candidate,
    /// It holds it.
    Active,
    /// It has given it to another one, and keeps its addresses until that has taken it.
    Yielding,
}

/// How well off a director is; the greater the better, the first difference counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standing {
    /// Witnesses that it reaches.
    pub witnesses: u8,
    /// Services of the group's VIPs with a live real server, as seen from there.
    pub services: u16,
    /// What its tracked commands add up to.
    pub score: i16,
}

/// A neighbour on a segment where VIPs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: [u8; 6],
}
