use std::path::PathBuf;
use std::time::Duration;

use super::super::plan::{Action, is_ours, macvlan, obstacle, plan};
use super::*;
use crate::model::heartbeat::TakeoverCommand;

const MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 7];

fn two_groups() -> Vec<Group> {
    vec![
        Group::new("a", vec![vip("192.0.2.10", 24, "eth0"), vip("2001:db8::10", 64, "eth0")]),
        Group::new("b", vec![vip("192.0.2.20", 24, "eth0")]),
    ]
}

#[test]
fn what_is_missing_is_added_and_what_is_not_held_is_removed_whatever_its_prefix() {
    let observed = Observed::of(&[
        interface(2, "eth0", true),
        has(2, "192.0.2.1", 24, false),
        has(2, "192.0.2.10", 24, true),
        has(2, "192.0.2.20", 32, false),
    ]);
    let actions = plan(&observed, &two_groups(), active(&["a"]), &[]);
    let remove = Action::Remove {
        index: 2,
        device: "eth0".to_owned(),
        address: ip("192.0.2.20"),
        prefix: 32,
        promote: false,
    };
    assert_eq!(actions, [Action::Add { group: 0, vip: 1 }, remove]);
    // Both are where they are to be.
    let done = Observed::of(&[
        interface(2, "eth0", true),
        has(2, "192.0.2.10", 24, true),
        has(2, "2001:db8::10", 64, false),
    ]);
    assert_eq!(plan(&done, &two_groups(), active(&["a"]), &[]), []);
}

#[test]
fn nothing_is_added_where_there_is_no_interface_or_it_is_down() {
    let groups = two_groups();
    for observed in [Observed::default(), Observed::of(&[interface(2, "eth0", false)])] {
        assert_eq!(plan(&observed, &groups, active(&["a", "b"]), &[]), []);
        assert!(obstacle(&observed, &groups[0], &groups[0].vips[0]).is_some());
    }
    // But it is removed there.
    let down = Observed::of(&[interface(2, "eth0", false), has(2, "192.0.2.20", 24, false)]);
    assert_eq!(removed(&plan(&down, &groups, active(&["a"]), &[])), [(ip("192.0.2.20"), false)]);
}

#[test]
fn secondary_addresses_go_first_and_those_that_stay_are_promoted() {
    let mut messages =
        vec![interface(2, "eth0", true), has(2, "192.0.2.10", 24, false), has(2, "192.0.2.20", 24, true)];
    let both = plan(&Observed::of(&messages), &two_groups(), active(&[]), &[]);
    assert_eq!(removed(&both), [(ip("192.0.2.20"), false), (ip("192.0.2.10"), false)]);
    let one = plan(&Observed::of(&messages), &two_groups(), active(&["b"]), &[]);
    assert_eq!(removed(&one), [(ip("192.0.2.10"), true)]);
    // Someone else's address hangs on the VIP.
    messages.push(has(2, "192.0.2.77", 24, true));
    let foreign = plan(&Observed::of(&messages), &two_groups(), active(&[]), &[]);
    assert_eq!(removed(&foreign), [(ip("192.0.2.20"), false), (ip("192.0.2.10"), true)]);
    // It is of another network, by its prefix length.
    messages[3] = has(2, "192.0.2.77", 25, true);
    let other = plan(&Observed::of(&messages), &two_groups(), active(&[]), &[]);
    assert_eq!(removed(&other), [(ip("192.0.2.20"), false), (ip("192.0.2.10"), false)]);
}

#[test]
fn vips_that_are_not_configured_any_more_are_removed_unless_another_group_has_them() {
    let observed = Observed::of(&[
        interface(2, "eth0", true),
        has(2, "192.0.2.20", 24, false),
        has(2, "192.0.2.30", 24, true),
    ]);
    let gone = [vip("192.0.2.20", 24, "eth0"), vip("192.0.2.30", 24, "eth0")];
    let actions = plan(&observed, &two_groups(), active(&["b"]), &gone);
    assert_eq!(removed(&actions), [(ip("192.0.2.30"), false)]);
    assert_eq!(actions.len(), 1);
}

#[test]
fn groups_that_are_taken_by_other_means_are_left_alone() {
    let mut groups = two_groups();
    let command = TakeoverCommand {
        command: vec![PathBuf::from("/bin/true").display().to_string()],
        timeout: Duration::from_secs(1),
        retry: Duration::from_secs(1),
    };
    groups[0].takeover = Means::Command(command);
    let observed = Observed::of(&[interface(2, "eth0", true), has(2, "192.0.2.10", 24, false)]);
    assert_eq!(plan(&observed, &groups, active(&["a"]), &[]), []);
    assert_eq!(plan(&observed, &groups, active(&[]), &[]), []);
}

fn virtual_group() -> Vec<Group> {
    let mut groups =
        vec![Group::new("a", vec![vip("192.0.2.10", 24, "eth0"), vip("192.0.2.11", 24, "eth1")])];
    groups[0].virtual_mac = Some(MAC);
    groups
}

#[test]
fn a_virtual_mac_has_a_macvlan_on_each_interface() {
    let (groups, zero, one) = (virtual_group(), macvlan("a", "eth0"), macvlan("a", "eth1"));
    assert!(zero != one && zero.len() == 11 && zero.starts_with("dv-"));
    let interfaces = || vec![interface(2, "eth0", true), interface(3, "eth1", true)];
    let create = |name: &String, parent: u32, parent_name: &str| Action::Create {
        name: name.clone(),
        parent,
        parent_name: parent_name.to_owned(),
        mac: MAC,
    };
    let actions = plan(&Observed::of(&interfaces()), &groups, active(&["a"]), &[]);
    let adds = [Action::Add { group: 0, vip: 0 }, Action::Add { group: 0, vip: 1 }];
    let creates = [create(&zero, 2, "eth0"), create(&one, 3, "eth1")];
    assert_eq!(actions, [creates.clone(), adds.clone()].concat());

    // One is there with its VIP; the other one has another MAC. A VIP is left on the interface itself.
    let mut messages = interfaces();
    messages.extend([macvlan_on(2, 9, &zero, MAC), has(9, "192.0.2.10", 24, false)]);
    messages.extend([macvlan_on(3, 10, &one, [2; 6]), has(2, "192.0.2.10", 24, false)]);
    let actions = plan(&Observed::of(&messages), &groups, active(&["a"]), &[]);
    let delete = Action::Delete { index: 10, name: one.clone() };
    assert_eq!(actions[..3], [delete.clone(), creates[1].clone(), adds[1].clone()]);
    assert_eq!(removed(&actions), [(ip("192.0.2.10"), false)]);
    assert_eq!(actions.len(), 4);

    // Standby: the address goes at once, the interfaces, which take longer, after that.
    let actions = plan(&Observed::of(&messages), &groups, active(&[]), &[]);
    assert_eq!(removed(&actions), [(ip("192.0.2.10"), false), (ip("192.0.2.10"), false)]);
    assert_eq!(actions[2..], [Action::Delete { index: 9, name: zero }, delete]);
}

#[test]
fn macvlans_of_earlier_runs_go_and_what_only_looks_like_one_stays() {
    let mut messages = vec![interface(2, "eth0", true), interface(3, "eth1", true)];
    messages.extend([macvlan_on(2, 9, "dv-0123abcd", MAC), macvlan_on(2, 10, "dv-mine", MAC)]);
    messages.push(interface(11, "dv-0123abce", true));
    let observed = Observed::of(&messages);
    assert_eq!(observed.links().filter(|(_, link)| is_ours(link)).count(), 1);
    let actions = plan(&observed, &virtual_group(), active(&[]), &[]);
    assert_eq!(actions, [Action::Delete { index: 9, name: "dv-0123abcd".to_owned() }]);

    // Another interface has the name: nothing can be made, and that is said.
    messages.push(interface(12, &macvlan("a", "eth0"), true));
    let (observed, groups) = (Observed::of(&messages), virtual_group());
    let reason = obstacle(&observed, &groups[0], &groups[0].vips[0]).expect("a reason");
    assert!(reason.contains("rename or delete it"), "{reason}");
    let actions = plan(&observed, &groups, active(&["a"]), &[]);
    assert!(!actions.contains(&Action::Add { group: 0, vip: 0 }), "{actions:?}");
}
