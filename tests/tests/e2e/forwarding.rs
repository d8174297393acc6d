//! Every kind of packet goes where it should: spread over the real servers, refused, or left to the kernel.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::clients::{Curl, Load, ask, fetch_from_port};
use tests::lab::{Config, DIRECT_VIPS, Lab, NAT_VIPS, Service};

use crate::farm::{self, WAYS, ensure_shares, everywhere, real, url, web, with_reals};

/// Round robin counts on each CPU for itself.
const RR_SLACK: u64 = 6;

#[test]
fn requests_are_spread_evenly_by_round_robin() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let _director = lab.director(everywhere())?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 90).run(lab.client())?;
        ensure_shares(&answers, [30, 30, 30], RR_SLACK).map_err(|error| error.context(name))?;
    }
    Ok(())
}

#[test]
fn weights_are_followed() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let config = WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        config.service(web(name, vip, nat, &[3, 2, 1]).scheduler("wrr"))
    });
    let _director = lab.director(config)?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 120).run(lab.client())?;
        ensure_shares(&answers, [60, 40, 20], RR_SLACK).map_err(|error| error.context(name))?;
    }
    Ok(())
}

#[test]
fn hashes_spread_or_stay_as_they_should() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let vip = DIRECT_VIPS[0];
    let service = |name: &str, port: u16| {
        let service = with_reals(Service::tcp(name, vip, port).scheduler(name), vip, false, &[1, 1, 2]);
        service.set("port", &port.to_string())
    };
    let config = Config::new()
        .service(service("mh", 80))
        .service(service("sh", 8080))
        .service(service("dh", 8001))
        .service(service("fo", 8002));
    let _director = lab.director(config)?;
    let answers = Curl::new(&url(vip, 80), 200).run(lab.client())?;
    ensure_shares(&answers, [50, 50, 100], 30)?;
    for (name, port) in [("sh", 8080), ("dh", 8001)] {
        let answers = Curl::new(&url(vip, port), 20).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.by_real.len() == 1, "{name}: {answers}");
    }
    let answers = Curl::new(&url(vip, 8002), 20).run(lab.client())?;
    ensure!(answers.of("real3") == 20, "fo takes the heaviest: {answers}");
    Ok(())
}

#[test]
fn load_passes_without_an_error() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let _director = lab.director(everywhere())?;
    for (name, vip, _) in WAYS {
        for load in [
            Load::new(&url(vip, 80), Duration::from_secs(2)),
            Load::new(&url(vip, 80), Duration::from_secs(2)).close(),
        ] {
            load.connections(16).run(lab.client())?.ensure_clean().map_err(|error| error.context(name))?;
        }
    }
    Ok(())
}

#[test]
fn datagrams_are_answered() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _echoes = farm::udp_echoes(&lab, 53)?;
    let _director = lab.director(farm::datagrams_everywhere(53))?;
    for (name, vip, _) in WAYS {
        let server = SocketAddr::new(vip.parse()?, 53);
        let mut seen = std::collections::BTreeSet::new();
        for question in 0..12 {
            let answer = ask(lab.client(), server, &question.to_string())?;
            let (real, echo) = answer.split_once(':').unwrap_or_default();
            ensure!(echo == question.to_string(), "{name}: {answer}");
            seen.insert(real.to_owned());
        }
        ensure!(seen.len() == 3, "{name}: only {seen:?} answered");
    }
    Ok(())
}

#[test]
fn datagrams_larger_than_the_mtu_arrive_whole() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _echoes = farm::udp_echoes(&lab, 53)?;
    let _director = lab.director(farm::datagrams_everywhere(53))?;
    let question = "0123456789abcdef".repeat(500);
    for (name, vip, _) in WAYS {
        for _ in 0..4 {
            let answer = ask(lab.client(), SocketAddr::new(vip.parse()?, 53), &question)
                .map_err(|error| error.context(format!("{name}: fragments")))?;
            ensure!(
                answer.ends_with(&question) && answer.len() == question.len() + 6,
                "{name}: {} bytes",
                answer.len()
            );
        }
    }
    Ok(())
}

#[test]
fn nat_maps_ports_and_ranges_keep_theirs() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let mut config = Config::new();
    for vip in NAT_VIPS {
        let family = if vip.contains(':') { 6 } else { 4 };
        let mapped = Service::tcp(&format!("mapped{family}"), vip, 81).nat();
        let mapped = (1..=3).fold(mapped, |service, n| service.real_at(&real(n, vip), 8080, 1));
        let range = with_reals(
            Service::tcp(&format!("range{family}"), vip, 1).ports("[80, 8000-8010]"),
            vip,
            true,
            &[1, 1, 1],
        );
        config = config.service(mapped).service(range);
    }
    let _director = lab.director(config)?;
    for vip in NAT_VIPS {
        for port in [81, 80, 8000, 8010] {
            let answers = Curl::new(&url(vip, port), 9).run(lab.client())?;
            ensure!(answers.failed == 0 && answers.by_real.len() == 3, "{vip} port {port}: {answers}");
        }
    }
    Ok(())
}

#[test]
fn any_port_with_persistence_stays_on_one_real_server() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let config = WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        let mask = if vip.contains(':') { 64 } else { 24 };
        let persistence = format!("{{ timeout: 5m, netmask: {mask} }}");
        config.service(web(name, vip, nat, &[1, 1, 1]).ports("any").set("persistence", &persistence))
    });
    let _director = lab.director(config)?;
    for (name, vip, _) in WAYS {
        let mut reals = std::collections::BTreeSet::new();
        for port in [80, 8080, 8003] {
            let answers = Curl::new(&url(vip, port), 6).run(lab.client())?;
            ensure!(answers.failed == 0, "{name}: {answers}");
            reals.extend(answers.by_real.into_keys());
        }
        ensure!(reals.len() == 1, "{name}: one client met {reals:?}");
    }
    Ok(())
}

#[test]
fn a_service_without_real_servers_refuses_or_drops() -> Result<()> {
    let lab = Lab::builder().build()?;
    let mut config = Config::new();
    for (name, vip, nat) in WAYS {
        config = config
            .service(web(name, vip, nat, &[0]).set("unserved", "reject"))
            .service(
                with_reals(Service::tcp(&format!("{name}-drop"), vip, 82), vip, nat, &[0])
                    .set("unserved", "drop"),
            )
            .service(
                with_reals(Service::udp(&format!("{name}-udp"), vip, 53), vip, nat, &[0])
                    .set("unserved", "reject"),
            );
    }
    let director = lab.director(config)?;
    for (name, vip, _) in WAYS {
        let start = Instant::now();
        let refused =
            lab.client().command("curl").args(["-s", "-g", "--max-time", "5", &url(vip, 80)]).output()?;
        ensure!(refused.status.code() == Some(7), "{name}: curl ended with {}", refused.status);
        ensure!(start.elapsed() < Duration::from_secs(3), "{name}: refused only after {:?}", start.elapsed());
        let dropped =
            lab.client().command("curl").args(["-s", "-g", "--max-time", "0.5", &url(vip, 82)]).output()?;
        ensure!(dropped.status.code() == Some(28), "{name}: curl ended with {}", dropped.status);
        let error = ask(lab.client(), SocketAddr::new(vip.parse()?, 53), "anyone?").unwrap_err();
        ensure!(format!("{error:#}").contains("refused"), "{name}: no ICMP port unreachable: {error:#}");
    }
    // Status shows the counters of the last full second.
    tests::wait::until("the refusals to be counted", Duration::from_secs(5), || {
        let status = director.status()?;
        let reasons = status["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
        let count = |name: &str| {
            reasons.iter().find(|reason| reason["name"] == name).and_then(|reason| reason["count"].as_u64())
        };
        let counted = ["reject_rst", "reject_icmp", "drop_no_real"].map(count);
        Ok((counted == [Some(4), Some(4), Some(4)]).then_some(()))
    })
}

#[test]
fn what_is_not_for_a_service_is_left_to_the_kernel() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let _director = lab.director(everywhere())?;
    // Something of the director's own, on its address and on the VIPs: a port that no service has.
    let _own = lab.nginx("director")?;
    let director = lab.host("director");
    for address in DIRECT_VIPS.into_iter().chain(NAT_VIPS) {
        lab.client().run(&["ping", "-c", "2", "-W", "2", "-s", "3000", address])?;
        let answers = Curl::new(&url(address, 8080), 3).run(lab.client())?;
        ensure!(answers.of("director") == 3, "{address}: {answers}");
    }
    for address in [director.v4(), director.v6()] {
        let answers = Curl::new(&url(&address.to_string(), 80), 3).run(lab.client())?;
        ensure!(answers.of("director") == 3, "{address}: {answers}");
    }
    Ok(())
}

#[test]
fn a_port_is_used_again_without_delay() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let _director = lab.director(everywhere())?;
    for (name, vip, _) in WAYS {
        let mut slowest = Duration::ZERO;
        for _ in 0..12 {
            let start = Instant::now();
            fetch_from_port(lab.client(), SocketAddr::new(vip.parse()?, 80), 45_000)
                .map_err(|error| error.context(name))?;
            slowest = slowest.max(start.elapsed());
        }
        // A SYN that is lost or refused costs its client a whole second at least.
        ensure!(slowest < Duration::from_millis(900), "{name}: a connection took {slowest:?}");
    }
    Ok(())
}
