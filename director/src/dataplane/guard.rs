//! The guard: a group's VIPs are answered for as long as its lease lasts. A daemon that is frozen, starved or dead renews none.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};
use director_ebpf::abi::{Addr, MAX_GROUPS, MAX_GUARDED, mac_word, maps};

use super::Dataplane;
use super::error::Error;
use super::faults::{DELETE, MapErrors, READ, WRITE};
use super::mapped::Mapped;
use super::object;
use crate::model::{mapped, unmapped};

/// Addresses that have a lease together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardedGroup {
    /// Without a lease, no ARP request and no neighbour solicitation for these reaches the kernel.
    pub addresses: Vec<IpAddr>,
    /// With a lease, packets for this MAC are treated as those for the interface's own; without, they are dropped.
    pub mac: Option<[u8; 6]>,
}

/// For how long a group's addresses are answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// They are not.
    Never,
    /// Up to and including this time of CLOCK_BOOTTIME, counted from the machine's start.
    Until(Duration),
    /// Whatever becomes of this process.
    Forever,
}

impl Lease {
    /// As the map has it.
    fn word(self) -> u64 {
        match self {
            Lease::Never => 0,
            Lease::Until(end) => u64::try_from(end.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX - 1),
            Lease::Forever => u64::MAX,
        }
    }

    fn of(word: u64) -> Lease {
        match word {
            0 => Lease::Never,
            u64::MAX => Lease::Forever,
            end => Lease::Until(Duration::from_nanos(end)),
        }
    }
}

/// All groups' leases, in memory that this has mapped by itself: it may be used in any thread, and outlive the [`Dataplane`].
pub struct Leases(Mapped<u64>);

impl Leases {
    /// Sets a group's lease: one store of a word, seen by the next packet. No system call and no page fault (the kernel fills in
    /// the pages when they are mapped; mm/vmalloc.c, `remap_vmalloc_range`), so a real-time thread may call it.
    ///
    /// # Panics
    /// If `group` is not below [`MAX_GROUPS`].
    pub fn set(&self, group: usize, until: Lease) {
        self.0.word(group, 0).store(until.word(), Ordering::Release);
    }

    /// A group's lease, perhaps a predecessor's.
    ///
    /// # Panics
    /// As [`Leases::set`].
    pub fn get(&self, group: usize) -> Lease {
        Lease::of(self.0.word(group, 0).load(Ordering::Acquire))
    }
}

impl Dataplane {
    /// Makes these all the addresses that are guarded, and these all the virtual MACs; a group's place in the list is its number
    /// among the [`Leases`]. What is right already is not touched. Leases stay as they are: set those of new groups, and of
    /// groups whose number changes, before.
    ///
    /// # Errors
    /// There are too many groups or addresses, two groups have the same address or MAC (then nothing was changed), or a map
    /// cannot be written.
    pub fn guard(&mut self, groups: &[GuardedGroup]) -> Result<(), Error> {
        let Guarded { addresses, macs } = Guarded::of(groups)?;
        level((maps::GUARD, &mut self.guard), &addresses, &self.errors)?;
        level((maps::VMACS, &mut self.virtual_macs), &macs, &self.errors)
    }

    /// Guards nothing any more, and ends all leases: what a director without a heartbeat does with a predecessor's guard. From
    /// then on the kernel answers for whatever addresses it has.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn release_guard(&mut self) -> Result<(), Error> {
        self.guard(&[])?;
        let leases = self.leases()?;
        (0..MAX_GROUPS as usize).for_each(|group| leases.set(group, Lease::Never));
        Ok(())
    }

    /// The groups' leases, as a predecessor left them or as they were set since.
    ///
    /// # Errors
    /// Memory is short.
    pub fn leases(&self) -> Result<Leases, Error> {
        Ok(Leases(object::mapped(&self.base, maps::LEASES, MAX_GROUPS as usize)?))
    }
}

/// What both maps shall hold.
#[derive(Debug, Default)]
struct Guarded {
    addresses: BTreeMap<Addr, u32>,
    macs: BTreeMap<u64, u32>,
}

impl Guarded {
    fn of(groups: &[GuardedGroup]) -> Result<Guarded, Error> {
        if groups.len() > MAX_GROUPS as usize {
            let help = format!("use at most {MAX_GROUPS}");
            return Err(Error::Guard(format!("there are {} groups; {help}", groups.len())));
        }
        let mut guarded = Guarded::default();
        for (number, group) in (0u32..).zip(groups) {
            for address in group.addresses.iter().map(|address| mapped(*address)) {
                if guarded.addresses.insert(address, number).is_some_and(|other| other != number) {
                    let address = unmapped(address);
                    let help = "an address can be in one only";
                    return Err(Error::Guard(format!("{address} is in two groups; {help}")));
                }
            }
            if group.mac.is_some_and(|mac| guarded.macs.insert(mac_word(mac), number).is_some()) {
                return Err(Error::Guard("two groups have the same virtual MAC; give one another".into()));
            }
        }
        if guarded.addresses.len() > MAX_GUARDED as usize {
            let help = format!("use at most {MAX_GUARDED}");
            return Err(Error::Guard(format!("there are {} VIPs; {help}", guarded.addresses.len())));
        }
        Ok(guarded)
    }
}

/// Makes a map hold exactly this. What shall go goes first, so that there is room.
fn level<K: Pod + Ord>(
    (name, map): (&str, &mut HashMap<MapData, K, u32>),
    wanted: &BTreeMap<K, u32>,
    errors: &MapErrors,
) -> Result<(), Error> {
    let there = map.iter().collect::<Result<BTreeMap<K, u32>, MapError>>();
    let there = errors.note(name, READ, there)?;
    for key in there.keys().filter(|key| !wanted.contains_key(key)) {
        match map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => errors.note(name, DELETE, Err(error))?,
        }
    }
    for (key, group) in wanted.iter().filter(|(key, group)| there.get(key) != Some(group)) {
        errors.note(name, WRITE, map.insert(key, group, 0))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(addresses: &[&str], mac: Option<[u8; 6]>) -> GuardedGroup {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        GuardedGroup { addresses, mac }
    }

    fn refusal(groups: &[GuardedGroup]) -> String {
        Guarded::of(groups).expect_err("it cannot be guarded").to_string()
    }

    #[test]
    fn a_lease_is_what_its_word_says() {
        let (short, long) = (Duration::from_nanos(1), Duration::from_nanos(u64::MAX - 1));
        for lease in [Lease::Never, Lease::Until(short), Lease::Until(long), Lease::Forever] {
            assert_eq!(Lease::of(lease.word()), lease);
        }
        // A time that the clock never shows is no lease for ever, and its first one is none that lasts.
        assert_eq!(Lease::of(Lease::Until(Duration::MAX).word()), Lease::Until(long));
        assert_eq!(Lease::of(Lease::Until(Duration::ZERO).word()), Lease::Never);
    }

    #[test]
    fn what_is_in_two_groups_is_refused() {
        let guarded = Guarded::of(&[
            group(&["192.0.2.1", "192.0.2.1"], Some([2, 0, 0, 0, 0, 1])),
            group(&["2001:db8::1"], Some([2, 0, 0, 0, 0, 2])),
        ]);
        let guarded = guarded.expect("an address twice in one group does no harm");
        assert_eq!((guarded.addresses.len(), guarded.macs.len()), (2, 2));
        let text = refusal(&[group(&["192.0.2.1"], None), group(&["::ffff:192.0.2.1"], None)]);
        assert!(text.contains("192.0.2.1 is in two groups"), "{text}");
        let mac = Some([2, 0, 0, 0, 0, 1]);
        let text = refusal(&[group(&[], mac), group(&[], mac)]);
        assert!(text.contains("the same virtual MAC"), "{text}");
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let many = vec![GuardedGroup::default(); MAX_GROUPS as usize + 1];
        assert!(Guarded::of(&many[1..]).is_ok());
        assert!(refusal(&many).contains("65 groups; use at most 64"));
        let addresses = (0..=MAX_GUARDED).map(|i| std::net::Ipv4Addr::from(i).into());
        let many = GuardedGroup { addresses: addresses.collect(), mac: None };
        assert!(refusal(&[many]).contains("4097 VIPs; use at most 4096"));
    }
}
