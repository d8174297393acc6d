//! Labs with several directors.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::clients::{ArpWatch, Kind};
use tests::lab::{Config, DIRECT_VIPS, Daemon, GATEWAY_VIPS, Host, Lab, NAT_VIPS};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn directors_have_a_network_of_their_own_and_no_vips() -> Result<()> {
    let lab = Lab::builder().reals(1).directors(3).build()?;
    for (from, number) in [("director1", 12), ("director2", 13), ("director3", 11), ("director1", 13)] {
        for network in
            ["192.0.2.", "198.51.100.", "10.255.0.", "2001:db8::", "2001:db8:100::", "2001:db8:255::"]
        {
            reach(lab.host(from), &format!("{network}{number}"))?;
        }
    }
    reach(lab.client(), "198.51.100.13")?;
    // Their kernels would answer for these addresses on the other switch, too: what is apart is the switch.
    let ports = lab.host("hbswitch").run(&["ip", "-o", "link", "show", "master", "br0"])?;
    assert_eq!(ports.lines().count(), 3, "{ports}");
    assert!((1..=3).all(|number| ports.contains(&format!(" director{number}@"))), "{ports}");
    for vip in [DIRECT_VIPS, NAT_VIPS, GATEWAY_VIPS].concat() {
        assert!(ping(lab.client(), vip).is_err(), "{vip} answered");
    }
    let port = |switch: &str| lab.host(switch).run(&["ip", "-d", "link", "show", "director2"]);
    assert!(port("switch")?.contains(" xdp ") && !port("hbswitch")?.contains(" xdp "));
    Ok(())
}

#[test]
fn the_real_servers_way_out_is_whoever_holds_the_gateway() -> Result<()> {
    let lab = Lab::builder().reals(1).directors(2).with_router().build()?;
    for (vip, out, prefix) in
        [(GATEWAY_VIPS[0], "198.51.100.100", 32), (GATEWAY_VIPS[1], "2001:db8:100::100", 128)]
    {
        let ip: IpAddr = vip.parse()?;
        for host in ["real1", "router"] {
            let route = lab.host(host).run(&["ip", "route", "get", out])?;
            assert!(route.contains(&format!("via {vip} ")), "{route}");
        }
        let holder = lab.host("director2");
        holder.run(&["ip", "address", "add", &format!("{vip}/{prefix}"), "dev", "eth0", "nodad"])?;
        assert_eq!(lab.host("real1").neighbour(ip)?, None);
        reach(lab.host("real1"), vip)?;
        assert_eq!(lab.host("real1").neighbour(ip)?, Some(holder.mac("eth0")?));
    }
    Ok(())
}

#[test]
fn what_a_lab_cannot_be_is_said() {
    for (builder, complaint) in [
        (Lab::builder().directors(4), "1 to 3 directors, not 4"),
        (Lab::builder().directors(0), "1 to 3 directors, not 0"),
        (Lab::builder().directors(2).with_back(), "leave out `with_back`"),
    ] {
        let error = format!("{:#}", builder.build().unwrap_err());
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn all_directors_are_given_one_text_and_their_own_name() -> Result<()> {
    let lab = Lab::builder().reals(1).directors(2).build()?;
    let config = Config::new().cluster(lab.cluster()?.dead_after("500ms")).yaml();
    let mut daemons = lab.director_all_from(&stand_in(&lab)?, &config[..])?;
    for (daemon, number) in daemons.iter().zip(1..) {
        assert_eq!(fs::read_to_string(daemon.config_file())?, config);
        let own = lab.directory().join(format!("director{number}"));
        let expected = format!(
            "run --config {own}.yaml --pins {}/director{number} --node lb{number} --socket {own}.sock",
            lab.pins().display(),
            own = own.display(),
        );
        wait::until("its command line", PATIENCE, || Ok(daemon.log().contains(&expected).then_some(())))?;
        assert_eq!(daemon.host().name(), format!("director{number}"));
    }
    assert_ne!(daemons[0].pid(), daemons[1].pid());
    daemons[1].kill9();
    daemons[1].run()?;
    Ok(())
}

#[test]
fn the_key_is_its_owners_alone() -> Result<()> {
    let lab = Lab::builder().reals(1).directors(2).build()?;
    let yaml = Config::new().cluster(lab.cluster()?).yaml();
    let key = lab.directory().join("heartbeat.key");
    assert!(yaml.contains(&format!("  key_file: {}\n", key.display())), "{yaml}");
    assert_eq!(fs::metadata(&key)?.permissions().mode() & 0o777, 0o600);
    let first = fs::read_to_string(&key)?;
    assert!(first.starts_with("1 ") && first.trim_end().len() == 66);
    lab.cluster()?;
    assert_ne!(fs::read_to_string(&key)?, first);
    Ok(())
}

#[test]
fn a_frozen_director_stands_still_until_it_may_go_on() -> Result<()> {
    let lab = Lab::builder().reals(1).directors(2).build()?;
    let daemon = lab.director_n_from(&stand_in(&lab)?, 2, Config::new().cluster(lab.cluster()?))?;
    assert_ne!(state_of(&daemon)?, 'T');
    daemon.freeze()?;
    assert_eq!(state_of(&daemon)?, 'T');
    daemon.thaw()?;
    wait::until("it to go on", PATIENCE, || Ok((state_of(&daemon)? != 'T').then_some(())))
}

#[test]
fn who_announces_and_who_answers_is_seen() -> Result<()> {
    let lab = Lab::builder().reals(1).directors(2).build()?;
    let watch = ArpWatch::start(lab.client())?;
    let holder = lab.host("director1");
    for (vip, prefix) in [(DIRECT_VIPS[0], 32), (DIRECT_VIPS[1], 128)] {
        let ip: IpAddr = vip.parse()?;
        holder.run(&["ip", "address", "add", &format!("{vip}/{prefix}"), "dev", "eth0", "nodad"])?;
        assert_eq!(watch.of(ip), []);
        reach(lab.client(), vip)?;
        let answers = heard(&watch, ip, Kind::Reply)?;
        assert_eq!(answers, [holder.mac("eth0")?], "{vip}");
    }
    // With a new MAC address the kernel announces what it has.
    holder.sysctl("net/ipv4/conf/eth0/arp_notify", "1")?;
    holder.sysctl("net/ipv6/conf/eth0/ndisc_notify", "1")?;
    let fresh = "02:00:00:00:00:77";
    holder.run(&["ip", "link", "set", "eth0", "address", fresh])?;
    for vip in DIRECT_VIPS {
        let announcements = heard(&watch, vip.parse()?, Kind::Gratuitous)?;
        assert!(announcements.iter().all(|mac| mac == fresh), "{announcements:?}");
        // An entry that is there is changed by what was announced.
        assert_eq!(lab.client().neighbour(vip.parse()?)?.as_deref(), Some(fresh));
    }
    let of_director2 = lab.host("director2").mac("eth0")?;
    assert!(watch.seen().iter().all(|sighting| sighting.mac != of_director2));
    Ok(())
}

/// The MAC addresses that were given for an address in messages of a kind; waits for one at least.
fn heard(watch: &ArpWatch, ip: IpAddr, kind: Kind) -> Result<Vec<String>> {
    wait::until(&format!("{kind:?} for {ip}"), PATIENCE, || {
        let all = watch.of(ip).into_iter().filter(|sighting| sighting.kind == kind);
        let macs: Vec<String> = all.map(|sighting| sighting.mac).collect();
        Ok((!macs.is_empty()).then_some(macs))
    })
}

/// What is started in the director's place: it says how, and runs.
fn stand_in(lab: &Lab) -> Result<PathBuf> {
    let script = lab.directory().join("stand-in");
    fs::write(&script, "#!/bin/sh\n[ \"$1\" = run ] || exit 0\necho \"$@\"\nexec sleep 1000\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;
    Ok(script)
}

/// The process's state by proc(5).
fn state_of(daemon: &Daemon) -> Result<char> {
    let pid = daemon.pid().unwrap_or_default();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    ensure!(state.is_some(), "{stat}");
    Ok(state.unwrap_or_default())
}

/// An IPv6 address that was just added is in its multicast group a moment later, and asked for again after a second.
fn reach(host: &Host, address: &str) -> Result<()> {
    wait::until(&format!("{} to reach {address}", host.name()), PATIENCE, || Ok(ping(host, address).ok()))
}

fn ping(host: &Host, address: &str) -> Result<()> {
    host.run(&["ping", "-n", "-c", "1", "-W", "1", address]).map(drop)
}
