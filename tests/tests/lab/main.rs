//! The lab itself: its machines reach each other, as the plan says and no further, and it leaves nothing behind.

mod cluster;
mod faults;
mod probing;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Result, ensure};
use tests::clients::{Curl, Load, Session, ask, download, fetch_from_port, upload};
use tests::lab::{self, Host, Lab, xdp};

#[test]
fn the_client_reaches_every_real_server() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    for real in lab.reals() {
        for address in [real.v4(), real.v6()] {
            let answers = Curl::new(&url(address, 80, "/"), 5).run(lab.client())?;
            assert_eq!((answers.of(real.name()), answers.failed), (5, 0), "{address}: {answers}");
        }
    }
    let answers = Curl::new("http://192.0.2.22:8010/", 40).parallel(8).run(lab.client())?;
    assert_eq!((answers.of("real2"), answers.failed), (40, 0), "{answers}");
    let health = lab.client().run(&["curl", "-s", "http://192.0.2.21:8080/health"])?;
    assert_eq!(health, "OK, and well\n");
    Ok(())
}

#[test]
fn no_one_answers_for_the_vip_without_a_director() -> Result<()> {
    let lab = Lab::builder().without_vips().build()?;
    let _nginx = lab.nginx_everywhere()?;
    for vip in ["192.0.2.10", "[2001:db8::10]", "198.51.100.10", "[2001:db8:100::10]"] {
        let url = format!("http://{vip}/");
        assert!(lab.client().run(&["curl", "-s", "-g", "--max-time", "1", &url]).is_err(), "{vip} answered");
    }
    Ok(())
}

#[test]
fn the_vip_is_the_directors() -> Result<()> {
    let lab = Lab::builder().build()?;
    for vip in ["192.0.2.10", "2001:db8::10", "198.51.100.10", "2001:db8:100::10"] {
        lab.client().run(&["ping", "-c", "1", "-W", "2", vip])?;
        let neighbour = lab.client().run(&["ip", "neighbour", "show", vip])?;
        assert!(neighbour.contains(&lab.host("director").mac("eth0")?), "{neighbour}");
    }
    Ok(())
}

#[test]
fn udp_is_answered_from_the_address_that_was_asked() -> Result<()> {
    let lab = Lab::builder().build()?;
    let real = lab.host("real1");
    let _echo = lab.udp_echo("real1", 5353)?;
    for address in [real.v4(), real.v6()] {
        assert_eq!(ask(lab.client(), (address, 5353).into(), "hello")?, "real1:hello");
    }
    // The VIP on lo, reached as direct routing does: by the real server's MAC.
    let mac = real.mac("eth0")?;
    for vip in lab::DIRECT_VIPS {
        lab.client().run(&["ip", "neighbour", "replace", vip, "lladdr", &mac, "dev", "eth0"])?;
        assert_eq!(ask(lab.client(), SocketAddr::new(vip.parse()?, 5353), "hello")?, "real1:hello");
    }
    Ok(())
}

#[test]
fn a_long_session_sees_every_answer_and_notices_the_end() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let echo = lab.tcp_echo("real1", 7)?;
    let server = SocketAddr::new(lab.host("real1").v6(), 7);
    let session = Session::start(lab.client(), server)?;
    let cut = Session::start(lab.client(), server)?;
    assert_eq!(session.real(), "real1");
    let report = session.finish()?;
    report.ensure_whole()?;
    assert_eq!(report.real, "real1");
    drop(echo);
    // The thread notices by itself; its next exchange at the latest fails.
    tests::wait::until("the break", std::time::Duration::from_secs(2), || Ok(cut.has_ended().then_some(())))?;
    assert!(cut.finish()?.broken.is_some());
    Ok(())
}

#[test]
fn large_files_arrive_whole_whatever_the_mtu() -> Result<()> {
    for mtu in [1500, 9000] {
        let lab = Lab::builder().reals(1).mtu(mtu).build()?;
        let nginx = lab.nginx("real1")?;
        // Without fragmentation, a ping of the MTU passes and a larger one does not.
        let fits = (mtu - 28).to_string();
        lab.client().run(&["ping", "-c", "1", "-W", "2", "-M", "do", "-s", &fits, "192.0.2.11"])?;
        let real = lab.host("real1");
        for address in [real.v4(), real.v6()] {
            let fetched = download(lab.client(), &url(address, 80, "/big"))?;
            assert_eq!(fetched.sha256, lab.big_sha256()?);
        }
        let put = upload(lab.client(), "http://192.0.2.21/upload/file", &lab.big_file())?;
        assert_eq!(put.real, "real1");
        assert_eq!(lab::sha256_of(&nginx.uploaded("file"))?, lab.big_sha256()?);
    }
    Ok(())
}

#[test]
fn a_port_can_be_used_again_at_once() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let _nginx = lab.nginx("real1")?;
    let real = lab.host("real1");
    for address in [real.v4(), real.v6()] {
        for _ in 0..3 {
            assert_eq!(fetch_from_port(lab.client(), (address, 80).into(), 40_000)?, "real1");
        }
    }
    Ok(())
}

#[test]
fn wrk_loads_a_real_server() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let _nginx = lab.nginx("real1")?;
    let second = std::time::Duration::from_secs(1);
    for load in [Load::new("http://192.0.2.21/", second), Load::new("http://[2001:db8::21]/", second).close()]
    {
        let report = load.connections(8).run(lab.client())?;
        report.ensure_clean()?;
        assert!(report.requests > 100, "{report:?}");
        assert_eq!(report.latency.len(), 4);
    }
    Ok(())
}

#[test]
fn a_real_server_behind_the_router_is_reached_through_it() -> Result<()> {
    let lab = Lab::builder().reals(1).with_router().build()?;
    let _nginx = lab.nginx("far1")?;
    for host in [lab.client(), lab.host("director")] {
        let answers = Curl::new("http://198.18.0.21/", 2).run(host)?;
        assert_eq!(answers.of("far1"), 2, "{} {answers}", host.name());
        let answers = Curl::new("http://[2001:db8:18::21]/", 2).run(host)?;
        assert_eq!(answers.of("far1"), 2, "{} {answers}", host.name());
    }
    Ok(())
}

#[test]
fn the_second_segment_is_the_directors_alone() -> Result<()> {
    let lab = Lab::builder().reals(1).with_back().build()?;
    let _nginx = lab.nginx("back1")?;
    for address in ["203.0.113.21", "[2001:db8:113::21]"] {
        let answers = Curl::new(&format!("http://{address}/"), 2).run(lab.host("director"))?;
        assert_eq!(answers.of("back1"), 2, "{answers}");
    }
    // Even with a route: the director's kernel does not forward, so what gets through later was XDP's work.
    lab.client().run(&["ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.11"])?;
    let url = "http://203.0.113.21/";
    assert!(lab.client().run(&["curl", "-s", "--max-time", "1", url]).is_err());
    Ok(())
}

#[test]
fn the_switch_is_ready_for_the_directors_xdp() -> Result<()> {
    let lab = Lab::builder().reals(1).mtu(9000).with_back().build()?;
    for switch in ["switch", "backswitch"] {
        let port = lab.host(switch).run(&["ip", "-d", "link", "show", "director"])?;
        assert!(port.contains(" xdp ") && port.contains("numrxqueues 2"), "{port}");
        let offloads = lab.host(switch).run(&["ethtool", "-k", "director"])?;
        assert!(offloads.contains("tx-checksumming: off"), "{offloads}");
    }
    Ok(())
}

#[test]
fn what_xdp_sends_back_arrives() -> Result<()> {
    for mtu in [1500, 9000] {
        let lab = Lab::builder().reals(1).mtu(mtu).build()?;
        let nginx = lab.nginx("real1")?;
        let director = lab.host("director");
        let program = direct_routing(&director.mac("eth0")?, &lab.host("real1").mac("eth0")?)?;
        director.within(|| xdp::attach(&program, "eth0"))?;
        let answers = Curl::new("http://192.0.2.10/", 50).run(lab.client())?;
        assert_eq!((answers.of("real1"), answers.failed), (50, 0), "{answers}");
        // Up is where checksums and segmentation would show: down, the director is not on the way.
        let put = upload(lab.client(), "http://192.0.2.10/upload/file", &lab.big_file())?;
        println!("MTU {mtu}: 64 MiB up in {:?}", put.took);
        assert_eq!(lab::sha256_of(&nginx.uploaded("file"))?, lab.big_sha256()?);
    }
    Ok(())
}

#[test]
fn nothing_is_left_behind() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let (name, directory, pins) = (lab.name().to_owned(), lab.directory().to_owned(), lab.pins());
    fs::create_dir_all(pins.join("inner"))?;
    let nginx = lab.nginx("real1")?;
    let master = lab.host("real1").spawn(&["sleep", "1000"])?.keep();
    assert!(Path::new(&format!("/proc/{master}")).exists() && directory.exists());
    assert_eq!(lab::hosts_of(&name).len(), 4);
    drop(lab);
    drop(nginx);
    assert_eq!(lab::hosts_of(&name), Vec::<String>::new());
    assert!(!directory.exists() && !pins.exists());
    // Killed, though its parent (this test) has not asked for its status.
    let state = fs::read_to_string(format!("/proc/{master}/stat"))?;
    assert!(state.contains(") Z "), "{state}");
    Ok(())
}

#[test]
fn a_killed_tests_lab_is_swept_by_the_next() -> Result<()> {
    // A process id that is certainly none: larger than any the kernel gives.
    let stale = "dl99999999-0";
    let lab = Lab::builder().reals(1).named(stale).build()?;
    lab.host("real1").spawn(&["sleep", "1000"])?.keep();
    lab.keep();
    ensure!(lab::hosts_of(stale).len() == 4);
    lab::sweep_stale()?;
    assert_eq!(lab::hosts_of(stale), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_panic_takes_the_lab_down() -> Result<()> {
    let (send, receive) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let lab = Lab::builder().reals(1).build().unwrap();
        send.send(lab.name().to_owned()).unwrap();
        panic!("on purpose");
    })
    .join();
    assert!(panicked.is_err());
    assert_eq!(lab::hosts_of(&receive.recv()?), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_failed_command_says_what_and_where() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let host: &Host = lab.client();
    let error = format!("{:#}", host.run(&["ip", "link", "show", "nowhere"]).unwrap_err());
    assert!(error.contains("on client") && error.contains("ip link show nowhere"), "{error}");
    assert!(error.contains("does not exist"), "{error}");
    let error = format!("{:#}", host.run(&["no-such-program"]).unwrap_err());
    assert!(error.contains("no-such-program is not installed"), "{error}");
    Ok(())
}

/// A director in a few instructions: IPv4 for 192.0.2.10 goes to one real server, everything else to the kernel.
fn direct_routing(own_mac: &str, real_mac: &str) -> Result<Vec<u64>> {
    let (own, real) = (bytes_of(own_mac)?, bytes_of(real_mac)?);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    // An instruction: operation, destination and source registers, offset, immediate value.
    let step = |code: u64, to: u64, from: u64, offset: u64, value: u32| {
        code | to << 8 | from << 12 | offset << 16 | u64::from(value) << 32
    };
    let (load_u16, load_u32, store_u16, store_u32) = (0x69, 0x61, 0x6a, 0x62);
    let (copy, add, set, if_more, if_other, exit) = (0xbf, 0x07, 0xb7, 0x2d, 0x55, 0x95);
    Ok(vec![
        step(load_u32, 2, 1, 0, 0),
        step(load_u32, 3, 1, 4, 0),
        step(copy, 4, 2, 0, 0),
        step(add, 4, 0, 0, 34),
        step(if_more, 4, 3, 10, 0),
        step(load_u16, 5, 2, 12, 0),
        step(if_other, 5, 0, 8, 0x0008),
        step(load_u32, 5, 2, 30, 0),
        step(if_other, 5, 0, 6, word(&[192, 0, 2, 10])),
        step(store_u32, 2, 0, 0, word(&real[..4])),
        step(store_u16, 2, 0, 4, word(&real[4..])),
        step(store_u32, 2, 0, 6, word(&own[..4])),
        step(store_u16, 2, 0, 10, word(&own[4..])),
        step(set, 0, 0, 0, 3),
        step(exit, 0, 0, 0, 0),
        step(set, 0, 0, 0, 2),
        step(exit, 0, 0, 0, 0),
    ])
}

fn bytes_of(mac: &str) -> Result<Vec<u8>> {
    Ok(mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?)
}

fn url(address: IpAddr, port: u16, path: &str) -> String {
    format!("http://{}{path}", SocketAddr::new(address, port))
}
