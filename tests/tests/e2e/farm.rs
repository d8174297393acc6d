//! The services that most tests use.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::clients::Answers;
use tests::lab::{Config, DIRECT_VIPS, Lab, NAT_VIPS, Service, TcpEcho, UdpEcho};

/// The four ways through the director: a service's name, its VIP, and whether it is NAT.
pub const WAYS: [(&str, &str, bool); 4] = [
    ("direct4", DIRECT_VIPS[0], false),
    ("direct6", DIRECT_VIPS[1], false),
    ("nat4", NAT_VIPS[0], true),
    ("nat6", NAT_VIPS[1], true),
];

/// Long enough for a load to be under way and for what is done to it to show.
pub const LOAD: Duration = Duration::from_secs(4);

/// A real server's address in a VIP's family: `real(1, …)` is real1's.
pub fn real(number: u32, vip: &str) -> String {
    if vip.contains(':') { format!("2001:db8::2{number}") } else { format!("192.0.2.2{number}") }
}

/// `http://VIP:PORT/`, brackets where they belong.
pub fn url(vip: &str, port: u16) -> String {
    if vip.contains(':') { format!("http://[{vip}]:{port}/") } else { format!("http://{vip}:{port}/") }
}

/// A TCP service on a VIP with these weights for real1, real2, …
pub fn web(name: &str, vip: &str, nat: bool, weights: &[u16]) -> Service {
    with_reals(Service::tcp(name, vip, 80), vip, nat, weights)
}

/// Gives a service its real servers.
pub fn with_reals(service: Service, vip: &str, nat: bool, weights: &[u16]) -> Service {
    let service = if nat { service.nat() } else { service };
    weights
        .iter()
        .zip(1..)
        .fold(service, |service, (weight, number)| service.real(&real(number, vip), *weight))
}

/// Port 80 on every way, by `rr`, over three real servers.
pub fn everywhere() -> Config {
    WAYS.into_iter()
        .fold(Config::new(), |config, (name, vip, nat)| config.service(web(name, vip, nat, &[1, 1, 1])))
}

/// A TCP echo server on each of real1, real2, real3.
pub fn tcp_echoes(lab: &Lab, port: u16) -> Result<Vec<TcpEcho>> {
    (1..=3).map(|number| lab.tcp_echo(&format!("real{number}"), port)).collect()
}

/// A UDP echo server on each of real1, real2, real3.
pub fn udp_echoes(lab: &Lab, port: u16) -> Result<Vec<UdpEcho>> {
    (1..=3).map(|number| lab.udp_echo(&format!("real{number}"), port)).collect()
}

/// The same UDP service on every way, by `rr`.
pub fn datagrams_everywhere(port: u16) -> Config {
    WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        config.service(with_reals(Service::udp(name, vip, port), vip, nat, &[1, 1, 1]))
    })
}

/// Fails unless every request was answered, and by each of real1, real2, real3 as often as it should have been, give or take.
pub fn ensure_shares(answers: &Answers, shares: [u64; 3], tolerance: u64) -> Result<()> {
    ensure!(answers.failed == 0, "{answers}");
    for (share, number) in shares.into_iter().zip(1..) {
        let got = answers.of(&format!("real{number}"));
        ensure!(got.abs_diff(share) <= tolerance, "real{number} should have answered {share}: {answers}");
    }
    Ok(())
}
