//! Directors of a cluster: who holds the VIPs, and what clients notice when that changes. Real heartbeats, real ARP, real packets, in
//! network namespaces. Needs root.
//!
//! What users of keepalived suffer from in a pair (issues of acassen/keepalived), and the tests that show that it is not so here:
//!
//! | Pain | Test |
//! |---|---|
//! | Split brain, then stale ARP after healing: the survivor never announces again (#14 #160 #166 #542 #2387) | `partition::after_a_partition_one_lets_go_and_the_other_announces_again`, `partition::when_only_one_hears_the_other_the_one_that_hears_gives_in`, `partition::of_three_the_one_that_is_cut_off_lets_go` |
//! | A node that returns takes over before it has the connections' state (#237 #1966 #1138 #1140) | `pains::connections_outlive_their_director_and_its_return`, `failover::failback_takes_the_vips_back_after_its_delay_and_costs_nothing` |
//! | A reload flips the role (#349 #2159) | `operator::a_reload_keeps_roles_and_a_different_file_is_a_warning_until_both_have_it`, `virtual_mac::a_reload_with_a_virtual_mac_costs_nothing` |
//! | False failover when the CPU stalls or a machine is snapshotted (#2066 #1955 #2271) | `pains::a_standby_that_did_not_run_for_long_takes_nothing`, `failover::an_owner_that_did_not_run_for_long_lets_go_before_it_does_anything`, `virtual_mac::an_owner_that_froze_refuses_no_connection_of_the_new_ones` |
//! | Confusion around `nopreempt` (#512 #1515 #1652 #2599) | `pains::a_director_of_higher_priority_that_comes_later_takes_nothing`, `failover::a_pulled_cable_costs_the_dead_time_and_without_failback_nothing_when_it_is_plugged_in_again` |
//! | Weak authentication (#1512 #1895) | `trust::a_wrong_key_is_named_and_never_acted_upon`, `trust::garbage_and_strangers_are_counted_and_move_nothing`, `trust::a_key_that_others_may_read_is_refused_with_the_cure` |
//! | Clouds without multicast (#97 #950 #2121) | all by unicast; `links::a_cluster_lives_by_a_serial_line_alone`; `means::a_takeover_command_is_told_the_group_the_role_and_the_addresses` where there is no ARP either |

mod failover;
mod links;
mod load;
mod means;
mod names;
mod operator;
mod pains;
mod partition;
mod spread;
mod trust;
mod virtual_mac;
