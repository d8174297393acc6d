//! The script for real servers under direct forwarding: each lab is set up by it; here it has to undo that, and to find what is
//! missing.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tests::lab::{DIRECT_VIPS, Lab};

/// What the script could have changed on a host.
fn state(lab: &Lab, host: &str) -> Result<String> {
    let host = lab.host(host);
    let addresses = host.run(&["ip", "-o", "address", "show", "dev", "lo"])?;
    let settings = ["all/arp_ignore", "all/arp_announce", "eth0/arp_ignore", "eth0/arp_announce"]
        .map(|name| format!("/proc/sys/net/ipv4/conf/{name}"));
    let words: Vec<&str> = ["head"].into_iter().chain(settings.iter().map(String::as_str)).collect();
    Ok(addresses + &host.run(&words)?)
}

/// What it printed, where it ended with that code.
fn expect(output: &Output, code: i32) -> Result<String> {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{} instead of {code}: {text}", output.status);
    Ok(text)
}

#[test]
fn up_check_and_down_can_be_repeated_and_leave_what_there_was() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let [v4, v6] = DIRECT_VIPS;
    // The client has no VIP yet; that one of its settings is good already is to be left so.
    lab.host("client").sysctl("net/ipv4/conf/all/arp_ignore", "2")?;
    let before = state(&lab, "client")?;
    for round in 0..2 {
        let said = expect(&lab.real_server("client", &["up", v4, "2001:0DB8:0::10/128"])?, 0)?;
        ensure!(said.is_empty() == (round == 1), "round {round}: {said}");
        expect(&lab.real_server("client", &["check", v4, v6])?, 0)?;
    }
    let during = state(&lab, "client")?;
    ensure!(during.contains("192.0.2.10/32") && during.contains("2001:db8::10/128"), "{during}");
    // One after the other: the settings stay as long as an IPv4 VIP needs them.
    expect(&lab.real_server("client", &["up", "192.0.2.99"])?, 0)?;
    expect(&lab.real_server("client", &["down", v4])?, 0)?;
    let one_left = state(&lab, "client")?;
    ensure!(!one_left.contains("192.0.2.10/32") && one_left.contains("192.0.2.99/32"), "{one_left}");
    expect(&lab.real_server("client", &["check", "192.0.2.99"])?, 0)?;
    for _ in 0..2 {
        expect(&lab.real_server("client", &["down"])?, 0)?;
        let after = state(&lab, "client")?;
        ensure!(after == before, "before:\n{before}\nafter:\n{after}");
    }
    ensure!(!lab.real_server_state("client").join("vips").exists(), "what is undone is not noted any more");
    // What was there before `up` is not for `down` to take.
    lab.host("client").run(&["ip", "address", "add", "192.0.2.98/32", "dev", "lo"])?;
    expect(&lab.real_server("client", &["up", "192.0.2.98"])?, 0)?;
    expect(&lab.real_server("client", &["down", "192.0.2.98"])?, 0)?;
    ensure!(state(&lab, "client")?.contains("192.0.2.98/32"));
    Ok(())
}

#[test]
fn check_finds_what_is_wrong_and_says_how_to_mend_it() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let [v4, v6] = DIRECT_VIPS;
    let real = lab.host("real1");
    let check = || lab.real_server("real1", &["check", v4, v6]);
    // What breaks it, what is said, and what mends it.
    let faults: [(&[&str], &str, &[&str]); 6] = [
        (
            &["ip", "addr", "del", "192.0.2.10/32", "dev", "lo"],
            "fix: director-real-server up 192.0.2.10",
            &["up", v4],
        ),
        (&["ip", "addr", "del", "2001:db8::10/128", "dev", "lo"], "2001:db8::10 is not on lo", &["up", v6]),
        (
            &["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0"],
            "eth0 answers ARP requests for VIPs: arp_ignore is 0\n  fix: sysctl -w net.ipv4.conf.all.arp_ignore=1",
            &["up", v4],
        ),
        (
            &["sysctl", "-qw", "net.ipv4.conf.all.arp_announce=1"],
            "fix: sysctl -w net.ipv4.conf.all.arp_announce=2",
            &["up", v4],
        ),
        (
            &["sysctl", "-qw", "net.ipv4.conf.eth0.arp_ignore=8"],
            "eth0: arp_ignore is 8, which does not fit",
            &["!", "sysctl", "-qw", "net.ipv4.conf.eth0.arp_ignore=0"],
        ),
        (
            &["ip", "addr", "add", "192.0.2.10/24", "dev", "eth0"],
            "fix: ip address del 192.0.2.10/24 dev eth0",
            &["!", "ip", "address", "del", "192.0.2.10/24", "dev", "eth0"],
        ),
    ];
    expect(&check()?, 0)?;
    for (fault, said, cure) in faults {
        real.run(fault)?;
        let output = expect(&check()?, 1)?;
        ensure!(output.contains(said), "{fault:?}: {output}");
        match cure {
            ["!", command @ ..] => drop(real.run(command)?),
            words => drop(expect(&lab.real_server("real1", words)?, 0)?),
        }
        expect(&check()?, 0).with_context(|| format!("after the cure of {fault:?}"))?;
    }
    Ok(())
}

#[test]
fn a_wrong_command_line_changes_nothing() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let before = state(&lab, "client")?;
    for words in [
        &["up"][..],
        &["check"],
        &[],
        &["start", "192.0.2.10"],
        &["--force", "up", "192.0.2.10"],
        &["--state"],
        &["up", "192.0.2.10", "192.0.2.256"],
        &["up", "192.0.2.10", "192.0.2.010"],
        &["up", "192.0.2.10", "192.0.2"],
        &["up", "192.0.2.10", "2001:db8::1::2"],
        &["up", "192.0.2.10", "2001:db8"],
        &["up", "192.0.2.10", "1:2:3:4:5:6:7:8:9"],
        &["up", "192.0.2.10", "2001:db8::g"],
        &["up", "192.0.2.10", "web.example.org"],
        &["up", "192.0.2.10/24"],
        &["up", "127.0.0.1"],
        &["up", "224.0.0.1"],
        &["up", "fe80::1"],
        &["up", "::1"],
        &["up", "ff02::1"],
    ] {
        let said = expect(&lab.real_server("client", words)?, 2).with_context(|| format!("{words:?}"))?;
        ensure!(said.contains("help: director-real-server --help"), "{words:?}: {said}");
        ensure!(state(&lab, "client")? == before, "{words:?}");
    }
    let help = expect(&lab.real_server("client", &["--help"])?, 0)?;
    ensure!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    // A network in place of an address would make all its machines local.
    lab.host("client").run(&["ip", "address", "add", "192.0.2.97/24", "dev", "lo"])?;
    let said = expect(&lab.real_server("client", &["up", "192.0.2.97"])?, 1)?;
    ensure!(said.contains("help: ip address del 192.0.2.97/24 dev lo"), "{said}");
    Ok(())
}

#[test]
fn shellcheck_finds_nothing() -> Result<()> {
    let scripts = ["real-server/director-real-server", "debian/postinst", "debian/prerm", "debian/postrm"];
    let mut shellcheck = Command::new("shellcheck");
    shellcheck.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")).arg("-x").args(scripts);
    let output = shellcheck.output().context("`cargo xtask setup` installs shellcheck")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
