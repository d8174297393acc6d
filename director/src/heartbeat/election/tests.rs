//! Every decision by two directors, and by three that see the same, and the transitions that matter one by one.

use super::*;

const A: Key = Key(1);
const B: Key = Key(2);
const C: Key = Key(3);
const NAMES: [(Key, &str); 3] = [(A, "a"), (B, "b"), (C, "c")];
const NOW: Moment = Moment::from_start(Duration::from_secs(1000));
const SETTLE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);
const ROLES: [Role; 4] = [Role::Standby, Role::Candidate, Role::Active, Role::Yielding];

/// How a director truly is.
#[derive(Clone, Copy, Debug)]
struct Truth {
    role: Role,
    eligible: bool,
    reluctant: bool,
    better: bool,
    preferred: bool,
    joined: bool,
    resigning: bool,
    heir: Option<Key>,
}

const PLAIN: Truth = Truth {
    role: Role::Standby,
    eligible: true,
    reluctant: false,
    better: false,
    preferred: false,
    joined: true,
    resigning: false,
    heir: None,
};

fn contender(i: usize, truth: Truth, seen: bool) -> Contender<'static> {
    let resigns = truth.resigning && matches!(truth.role, Role::Standby | Role::Candidate);
    Contender {
        key: NAMES[i].0,
        name: NAMES[i].1,
        role: truth.role,
        term: 1,
        // Of itself it says so only once it has joined.
        eligible: truth.eligible && !resigns && (truth.joined || !seen),
        reluctant: truth.reluctant,
        standing: Standing { services: u16::from(truth.better), ..Standing::default() },
        preference: u16::from(truth.preferred),
        heir: truth.heir,
        deaf: false,
        load: 0,
    }
}

/// What one of them sees; everything has been so for `lasted`.
fn view(all: &[Truth], me: usize, failback: Failback, lasted: Duration) -> View<'static> {
    let others = (0..all.len()).filter(|i| *i != me).map(|i| contender(i, all[i], true));
    let rules = Rules { failback, settle: SETTLE, patience: PATIENCE, spread: false };
    let mut view = View {
        now: NOW,
        me: contender(me, all[me], false),
        others: others.collect(),
        joined: all[me].joined,
        listened: all[me].joined,
        backing: Backing::NotNeeded,
        since: NOW - lasted,
        rival: None,
        shed: None,
        resigning: all[me].resigning,
        rules,
    };
    view.rival = rival(&view).map(|rival| (rival.key, NOW - lasted));
    view
}

/// Every way that a director can be.
fn truths(me: Key, other: Key) -> Vec<Truth> {
    let mut all = Vec::new();
    for bits in 0..64u8 {
        let bit = |n: u8| bits >> n & 1 == 1;
        for role in ROLES {
            let heirs = if role == Role::Yielding { vec![other, me, C] } else { vec![me] };
            for heir in heirs {
                all.push(Truth {
                    role,
                    eligible: bit(0),
                    reluctant: bit(1),
                    better: bit(2),
                    preferred: bit(3),
                    joined: bit(4),
                    resigning: bit(5),
                    heir: (role == Role::Yielding && heir != me).then_some(heir),
                });
            }
        }
    }
    all
}

/// What every single decision has to obey.
fn obeys(view: &View, decision: &Decision) {
    let sees = |role: Role| view.others.iter().any(|other| other.role == role);
    let said = || format!("{decision:?} upon {view:#?}");
    let claims = matches!(decision, Decision::Become(Role::Active | Role::Candidate, _));
    if view.me.role == Role::Standby {
        let may = view.me.eligible && view.joined && !sees(Role::Active);
        assert!(!claims || may, "a standby claims what it must not: {}", said());
        assert!(claims || *decision == Decision::Stay, "a standby does something else: {}", said());
    }
    let holds = matches!(view.me.role, Role::Active | Role::Yielding);
    assert!(!claims || holds || view.me.eligible, "one that is not eligible claims: {}", said());
    if sees(Role::Active) {
        assert!(!claims, "claimed in spite of an owner: {}", said());
    }
    if let Decision::Yield(heir, why) = decision {
        let heir = view.others.iter().find(|other| other.key == *heir);
        let heir = heir.unwrap_or_else(|| panic!("yields to nobody: {}", said()));
        assert!(heir.eligible && !heir.deaf, "yields to one that cannot take it: {}", said());
        assert_eq!(view.me.role, Role::Active, "yields what it does not hold: {}", said());
        if matches!(why, Why::Preferred(_)) {
            assert_ne!(view.rules.failback, Failback::Never, "fails back: {}", said());
            assert!(heir.preference > view.me.preference, "fails back to no better one: {}", said());
        }
    }
    let backed = match view.backing {
        Backing::NotNeeded => true,
        Backing::Until(end) => end > view.now,
        Backing::TooFew { .. } => false,
    };
    let holds_on = !matches!(decision, Decision::Become(Role::Standby, _));
    assert!(view.me.role != Role::Active || backed || !holds_on, "holds on without a quorum: {}", said());
    let becomes_active = matches!(decision, Decision::Become(Role::Active, _));
    assert!(!becomes_active || backed, "becomes active without a quorum: {}", said());
}

#[test]
fn two_that_see_the_same_agree() {
    let (firsts, seconds) = (truths(A, B), truths(B, A));
    let failbacks = [
        (Failback::Never, SETTLE),
        (Failback::After(Duration::ZERO), Duration::ZERO),
        (Failback::After(SETTLE * 2), SETTLE),
    ];
    for (failback, lasted) in failbacks {
        for first in &firsts {
            for second in &seconds {
                agree(&[*first, *second], failback, lasted);
            }
        }
    }
}

fn agree(both: &[Truth; 2], failback: Failback, lasted: Duration) {
    let views = [view(both, 0, failback, lasted), view(both, 1, failback, lasted)];
    let said = [decide(&views[0]), decide(&views[1])];
    views.iter().zip(&said).for_each(|(view, decision)| obeys(view, decision));
    let yields = |decision: &Decision| matches!(decision, Decision::Yield(..));
    assert!(!said.iter().all(yields), "both yield: {both:?}");
    let joined = both.iter().all(|truth| truth.joined);
    if joined && both.iter().all(|truth| truth.role == Role::Standby) {
        let may = views.iter().any(|view| view.me.eligible);
        let claims = said.iter().filter(|said| matches!(said, Decision::Become(Role::Active, Why::NoOwner)));
        assert_eq!(claims.count(), usize::from(may), "{said:?} of {both:?}");
    }
    if joined && both.iter().all(|truth| truth.role == Role::Active) {
        let stays = said.iter().filter(|said| **said == Decision::Contested).count();
        let goes =
            said.iter().filter(|said| matches!(said, Decision::Become(Role::Standby, Why::OtherOwner(_))));
        assert_eq!((stays, goes.count()), (1, 1), "{said:?} of {both:?}");
    }
    // The second one does not hear the first one: the first one knows, and gives way, however much better it is.
    let mut told = views[0].clone();
    told.others[0].deaf = true;
    let decision = decide(&told);
    obeys(&told, &decision);
    if both.iter().all(|truth| truth.role == Role::Active) {
        assert!(
            matches!(decision, Decision::Become(Role::Standby, Why::DeafOwner(_))),
            "{decision:?} of {both:?}"
        );
    }
    // With a quorum, whatever the others promise.
    for backing in [
        Backing::Until(NOW + PATIENCE),
        Backing::Until(NOW),
        Backing::TooFew { free: true },
        Backing::TooFew { free: false },
    ] {
        let view = View { backing, ..views[0].clone() };
        obeys(&view, &decide(&view));
    }
    let view = View { shed: Some(B), ..views[0].clone() };
    obeys(&view, &decide(&view));
}

#[test]
fn three_that_see_the_same_agree() {
    let some: Vec<Truth> = (0..64u8)
        .flat_map(|bits| [Role::Standby, Role::Active].map(|role| (bits, role)))
        .filter(|(bits, _)| bits >> 4 == 0)
        .map(|(bits, role)| {
            let bit = |n: u8| bits >> n & 1 == 1;
            Truth { role, eligible: bit(0), reluctant: bit(1), better: bit(2), preferred: bit(3), ..PLAIN }
        })
        .collect();
    for first in &some {
        for second in &some {
            for third in &some {
                three(&[*first, *second, *third]);
            }
        }
    }
}

fn three(all: &[Truth; 3]) {
    let views: Vec<View> = (0..3).map(|me| view(all, me, Failback::After(Duration::ZERO), SETTLE)).collect();
    let said: Vec<Decision> = views.iter().map(decide).collect();
    views.iter().zip(&said).for_each(|(view, decision)| obeys(view, decision));
    let owners = all.iter().filter(|truth| truth.role == Role::Active).count();
    let claims = said.iter().filter(|said| matches!(said, Decision::Become(Role::Active, _))).count();
    let leaves = said
        .iter()
        .filter(|said| matches!(said, Decision::Become(Role::Standby, Why::OtherOwner(_))))
        .count();
    match owners {
        0 => assert_eq!(claims, usize::from(all.iter().any(|truth| truth.eligible)), "{said:?} of {all:?}"),
        1 => assert_eq!((claims, leaves), (0, 0), "{said:?} of {all:?}"),
        owners => assert_eq!((claims, leaves), (0, owners - 1), "{said:?} of {all:?}"),
    }
}

/// The director `a` sees `b`, both as given; what it does at once, and what once everything has been so for a minute.
fn does(me: Truth, other: Truth, failback: Failback) -> [Decision; 2] {
    [Duration::ZERO, Duration::from_secs(60)].map(|lasted| decide(&view(&[me, other], 0, failback, lasted)))
}

/// What a case is about, this director, the other one, the configuration, and what is expected at once and later.
type Case = (&'static str, Truth, Truth, Failback, [Decision; 2]);

const STANDBY: Truth = PLAIN;
const ACTIVE: Truth = Truth { role: Role::Active, ..PLAIN };
const CANDIDATE: Truth = Truth { role: Role::Candidate, ..PLAIN };
const TO_A: Truth = Truth { role: Role::Yielding, heir: Some(A), ..PLAIN };
const TO_B: Truth = Truth { role: Role::Yielding, heir: Some(B), ..PLAIN };
const AFTER: Failback = Failback::After(Duration::from_secs(30));

fn b() -> String {
    "b".to_owned()
}

fn both(decision: Decision) -> [Decision; 2] {
    [decision.clone(), decision]
}

fn agrees(cases: Vec<Case>) {
    for (what, me, other, failback, expected) in cases {
        assert_eq!(does(me, other, failback), expected, "{what}");
    }
}

#[test]
fn a_standby() {
    use Decision::{Become, Stay};
    use Role::Active;
    agrees(vec![
        (
            "nobody holds it, names decide",
            STANDBY,
            STANDBY,
            Failback::Never,
            both(Become(Active, Why::NoOwner)),
        ),
        (
            "the other one is preferred",
            STANDBY,
            Truth { preferred: true, ..STANDBY },
            Failback::Never,
            both(Stay),
        ),
        (
            "the other one cannot",
            STANDBY,
            Truth { eligible: false, preferred: true, ..STANDBY },
            Failback::Never,
            both(Become(Active, Why::NoOwner)),
        ),
        (
            "the other one is better off",
            Truth { preferred: true, ..STANDBY },
            Truth { better: true, ..STANDBY },
            Failback::Never,
            both(Stay),
        ),
        (
            "the other one would rather not",
            STANDBY,
            Truth { reluctant: true, better: true, ..STANDBY },
            Failback::Never,
            both(Become(Active, Why::NoOwner)),
        ),
        ("it still listens", Truth { joined: false, ..STANDBY }, STANDBY, Failback::Never, both(Stay)),
        ("there is an owner, however bad", Truth { better: true, ..STANDBY }, ACTIVE, AFTER, both(Stay)),
        ("it is given it", STANDBY, TO_A, Failback::Never, both(Become(Active, Why::GivenBy(b())))),
        (
            "it is given to somebody else",
            STANDBY,
            Truth { heir: Some(C), ..TO_A },
            Failback::Never,
            both(Stay),
        ),
    ]);
}

#[test]
fn an_owner() {
    use Decision::{Become, Contested, Stay, Yield};
    use Role::Standby;
    agrees(vec![
        ("an owner among equals", ACTIVE, STANDBY, AFTER, both(Stay)),
        ("names move nothing", ACTIVE, Truth { ..STANDBY }, Failback::After(Duration::ZERO), both(Stay)),
        (
            "preference moves it after a while",
            ACTIVE,
            Truth { preferred: true, ..STANDBY },
            AFTER,
            [Stay, Yield(B, Why::Preferred(b()))],
        ),
        ("or never", ACTIVE, Truth { preferred: true, ..STANDBY }, Failback::Never, both(Stay)),
        (
            "a better standing always does",
            ACTIVE,
            Truth { better: true, ..STANDBY },
            Failback::Never,
            [Stay, Yield(B, Why::BetterOff(b()))],
        ),
        (
            "not if an operator moved it away",
            ACTIVE,
            Truth { reluctant: true, better: true, preferred: true, ..STANDBY },
            AFTER,
            both(Stay),
        ),
        (
            "it must not hold it",
            Truth { eligible: false, ..ACTIVE },
            STANDBY,
            Failback::Never,
            both(Yield(B, Why::NotEligible)),
        ),
        (
            "nor can the other one",
            Truth { eligible: false, ..ACTIVE },
            Truth { eligible: false, ..STANDBY },
            Failback::Never,
            both(Become(Standby, Why::NotEligible)),
        ),
        (
            "it is to end",
            Truth { resigning: true, ..ACTIVE },
            STANDBY,
            Failback::Never,
            both(Yield(B, Why::Asked(b()))),
        ),
        (
            "it is to end, and nobody can take it",
            Truth { resigning: true, ..ACTIVE },
            Truth { resigning: true, ..STANDBY },
            Failback::Never,
            both(Stay),
        ),
        ("two owners, it comes first", ACTIVE, ACTIVE, Failback::Never, both(Contested)),
        (
            "two owners, the other one is preferred",
            ACTIVE,
            Truth { preferred: true, ..ACTIVE },
            Failback::Never,
            both(Become(Standby, Why::OtherOwner(b()))),
        ),
    ]);
}

#[test]
fn a_giver_and_a_candidate() {
    use Decision::{Become, Stay};
    use Role::{Active, Standby};
    agrees(vec![
        (
            "it gives, and is not answered",
            TO_B,
            STANDBY,
            Failback::Never,
            [Stay, Become(Active, Why::NotTaken(b()))],
        ),
        (
            "it gives, and that is taken",
            TO_B,
            ACTIVE,
            Failback::Never,
            both(Become(Standby, Why::TakenBy(b()))),
        ),
        (
            "it gives, and the heir falls ill",
            TO_B,
            Truth { eligible: false, ..STANDBY },
            Failback::Never,
            both(Become(Active, Why::NotTaken(b()))),
        ),
        (
            "and it must not keep it",
            Truth { eligible: false, ..TO_B },
            Truth { eligible: false, ..STANDBY },
            Failback::Never,
            both(Become(Standby, Why::NotTaken(b()))),
        ),
        (
            "two candidates, it comes first",
            CANDIDATE,
            CANDIDATE,
            Failback::Never,
            both(Become(Active, Why::Elected)),
        ),
        (
            "two candidates, the other one does",
            CANDIDATE,
            Truth { better: true, ..CANDIDATE },
            Failback::Never,
            both(Become(Standby, Why::OtherCandidate(b()))),
        ),
        (
            "a candidate meets an owner",
            CANDIDATE,
            ACTIVE,
            Failback::Never,
            both(Become(Standby, Why::OtherOwner(b()))),
        ),
        (
            "a candidate falls ill",
            Truth { eligible: false, ..CANDIDATE },
            STANDBY,
            Failback::Never,
            both(Become(Standby, Why::NotEligible)),
        ),
    ]);
}

#[test]
fn with_a_quorum() {
    let role = |role: Role, backing: Backing| {
        let view = view(&[Truth { role, ..PLAIN }, PLAIN], 0, Failback::Never, Duration::ZERO);
        decide(&View { backing, ..view })
    };
    let (promised, over) = (Backing::Until(NOW + PATIENCE), Backing::Until(NOW));
    let too_few = |free: bool| Backing::TooFew { free };
    let becomes = |role: Role, why: Why| Decision::Become(role, why);
    assert_eq!(role(Role::Standby, too_few(true)), becomes(Role::Candidate, Why::NoOwner));
    assert_eq!(role(Role::Standby, too_few(false)), Decision::Stay);
    assert_eq!(role(Role::Candidate, too_few(true)), Decision::Stay);
    assert_eq!(role(Role::Candidate, over), Decision::Stay);
    assert_eq!(role(Role::Candidate, promised), becomes(Role::Active, Why::Elected));
    assert_eq!(role(Role::Active, promised), Decision::Stay);
    assert_eq!(role(Role::Active, over), becomes(Role::Standby, Why::NoQuorum));
    assert_eq!(role(Role::Active, too_few(true)), becomes(Role::Standby, Why::NoQuorum));
}

#[test]
fn groups_without_an_owner_are_spread() {
    let loads = |mine: usize, theirs: usize, preferred: u16| {
        let mut view = view(&[PLAIN, PLAIN], 0, Failback::Never, Duration::ZERO);
        view.rules.spread = true;
        (view.me.load, view.others[0].load, view.others[0].preference) = (mine, theirs, preferred);
        decide(&view)
    };
    let taken = Decision::Become(Role::Active, Why::NoOwner);
    assert_eq!(loads(1, 2, 0), taken, "it holds fewer");
    assert_eq!(loads(2, 1, 0), Decision::Stay, "the other one holds fewer");
    assert_eq!(loads(2, 2, 0), taken, "as many: names decide");
    assert_eq!(loads(1, 2, 1 << 8), Decision::Stay, "a place in `prefer` comes before");
    assert_eq!(loads(1, 2, 1), taken, "a priority does not");
}

#[test]
fn a_third_one_does_not_take_what_was_just_given() {
    let mut view = view(&[PLAIN, PLAIN, PLAIN], 0, Failback::Never, Duration::ZERO);
    view.others[1].heir = Some(B);
    assert_eq!(decide(&view), Decision::Stay);
    view.others[0].eligible = false;
    assert_eq!(decide(&view), Decision::Become(Role::Active, Why::NoOwner), "it cannot have taken it");
}
