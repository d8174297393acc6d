//! What a director is for a group.

use super::{GroupFacts, Moved};
use crate::heartbeat::election::Why;
use crate::heartbeat::message::{Key, Role};
use crate::heartbeat::moment::Moment;
use crate::heartbeat::settings::GroupSettings;

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::heartbeat) struct Group {
    pub(in crate::heartbeat) settings: GroupSettings,
    pub(in crate::heartbeat) role: Role,
    pub(in crate::heartbeat) term: u64,
    pub(in crate::heartbeat) since: Moment,
    pub(in crate::heartbeat) why: Option<Why>,
    pub(in crate::heartbeat) heir: Option<Key>,
    pub(in crate::heartbeat) reluctant: bool,
    /// Another owner was heard: what clients' caches say is uncertain.
    pub(super) contested: bool,
    pub(super) rival: Option<Rival>,
    pub(in crate::heartbeat) vote: Option<Vote>,
    pub(in crate::heartbeat) facts: GroupFacts,
    /// Whether it may hold it, and since when it may again, where it could not before.
    pub(in crate::heartbeat) able: bool,
    pub(in crate::heartbeat) recovered: Option<Moment>,
    /// An owner was heard since it began to listen: there is none to be waited for.
    pub(in crate::heartbeat) knows_owner: bool,
    /// Raised whenever the VIPs are to be announced anew.
    pub(in crate::heartbeat) announce: u64,
}

/// Who is better than this owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rival {
    pub(super) key: Key,
    /// It is better off, not only preferred.
    pub(super) better_off: bool,
    pub(super) since: Moment,
}

/// A promise to have no other owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::heartbeat) struct Vote {
    pub(in crate::heartbeat) to: Key,
    pub(in crate::heartbeat) term: u64,
    /// How long it holds, unless the owner renews or releases it.
    pub(in crate::heartbeat) until: Moment,
}

impl Group {
    pub(super) fn new(settings: &GroupSettings, now: Moment) -> Group {
        Group {
            settings: settings.clone(),
            role: Role::Standby,
            term: 0,
            since: now,
            why: None,
            heir: None,
            reluctant: false,
            contested: false,
            rival: None,
            vote: None,
            facts: GroupFacts::default(),
            able: true,
            recovered: None,
            knows_owner: false,
            announce: 0,
        }
    }

    pub(super) fn moved(&self, to: Role, why: Why) -> Moved {
        Moved { group: self.settings.name.clone(), from: self.role, to, term: self.term, why }
    }

    pub(in crate::heartbeat) fn rival(&self) -> Option<(Key, Moment)> {
        self.rival.map(|rival| (rival.key, rival.since))
    }

    pub(super) fn become_(&mut self, now: Moment, role: Role, term: u64, why: Why) -> Moved {
        let moved = Moved { term, ..self.moved(role, why.clone()) };
        if role == Role::Active {
            self.announce += 1;
            self.reluctant = false;
        }
        // Others may hear of the new owner later than of this.
        if role != Role::Yielding && !matches!(why, Why::TakenBy(_)) {
            self.heir = None;
        }
        (self.role, self.term, self.since, self.why) = (role, term, now, Some(why));
        (self.contested, self.rival) = (false, None);
        moved
    }
}
