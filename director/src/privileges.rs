//! What the daemon may do. It keeps the capabilities that it uses (capabilities(7)) and gives up all others before it starts a
//! thread, for each thread has its own. Commands that it runs get no others either, unless the operator says so.

use std::str::FromStr;

use rustix::io::{Errno, Result};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::realtime;

/// What every director uses: maps, programs and their attachment; sockets that see whole packets; heartbeats by port 694. PERFMON: the
/// verifier would otherwise guard the program against leaks to users without rights, who do not write it.
const ALWAYS: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON);

/// What commands may have beside the director's own capabilities, of those that the daemon was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForCommands(CapabilitySet);

/// What became of the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduced {
    /// What the daemon has.
    pub kept: CapabilitySet,
    /// Of what it uses, what it was started without.
    pub missing: CapabilitySet,
    /// Whether commands are kept from others: that itself takes a capability (SETPCAP), where it is not so already.
    pub commands_limited: bool,
}

/// Gives up what the daemon does not use. Only the calling thread does so: it must be the only one.
///
/// # Errors
/// The kernel does not permit it, which would be strange.
pub fn reduce(commands: ForCommands) -> Result<Reduced> {
    let held = capabilities(None)?.permitted;
    let needed = needed(
        getrlimit(Resource::Memlock).current.is_none(),
        getrlimit(Resource::Rtprio)
            .current
            .is_none_or(|most| most >= realtime::HEARTBEAT.cast_unsigned().into()),
    );
    // A command that becomes another user must still end when its time is up (kill(2)).
    let needed =
        if commands.0.contains(CapabilitySet::SETUID) { needed | CapabilitySet::KILL } else { needed };
    let kept = held & needed;
    // First, for it takes a capability that goes next.
    let commands_limited = limit_commands(kept | commands.0)?;
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?;
    Ok(Reduced { kept, missing: ALWAYS - held, commands_limited })
}

/// What the daemon uses. Where its limits let it lock all memory and run at real-time priority, it needs no capability for that.
fn needed(may_lock: bool, may_prioritize: bool) -> CapabilitySet {
    let mut needed = ALWAYS;
    needed.set(CapabilitySet::IPC_LOCK, !may_lock);
    needed.set(CapabilitySet::SYS_NICE, !may_prioritize);
    needed
}

/// Takes all others out of the bounding set: a program that root starts gets what is in there.
fn limit_commands(allowed: CapabilitySet) -> Result<bool> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            // The kernel knows no more of them.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
            Ok(true) if !allowed.contains(capability) => {
                match remove_capability_from_bounding_set(capability) {
                    Err(Errno::PERM) => return Ok(false),
                    other => other?,
                }
            }
            Ok(_) => {}
        }
    }
    Ok(true)
}

impl Default for ForCommands {
    fn default() -> Self {
        ForCommands(CapabilitySet::empty())
    }
}

impl FromStr for ForCommands {
    type Err = String;

    /// `all`, or names as capabilities(7) has them, in any case, with or without `CAP_`, separated by commas.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "all" {
            return Ok(ForCommands(CapabilitySet::from_bits_retain(u64::MAX)));
        }
        let mut set = CapabilitySet::empty();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let name = word.to_ascii_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            set |= CapabilitySet::from_name(name)
                .ok_or_else(|| format!("there is no capability {word:?}; capabilities(7) lists them"))?;
        }
        Ok(ForCommands(set))
    }
}

/// Names as an operator writes them, separated by blanks.
pub fn names(set: CapabilitySet) -> String {
    let names: Vec<String> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_make_capabilities_superfluous() {
        assert_eq!(needed(true, true), ALWAYS);
        assert_eq!(needed(false, true), ALWAYS | CapabilitySet::IPC_LOCK);
        assert_eq!(needed(true, false), ALWAYS | CapabilitySet::SYS_NICE);
    }

    #[test]
    fn capabilities_have_names() {
        let set = |text: &str| text.parse::<ForCommands>().map(|set| set.0);
        assert_eq!(set("cap_setuid, SETGID"), Ok(CapabilitySet::SETUID | CapabilitySet::SETGID));
        assert_eq!(set(""), Ok(CapabilitySet::empty()));
        assert!(set("all").unwrap().contains(CapabilitySet::SYS_ADMIN | CapabilitySet::CHECKPOINT_RESTORE));
        assert!(set("CAP_FLY").unwrap_err().contains("CAP_FLY"));
        assert_eq!(names(CapabilitySet::NET_ADMIN | CapabilitySet::BPF), "CAP_NET_ADMIN CAP_BPF");
    }
}
