//! What a lab consists of, as data: its namespaces, their interfaces, addresses and routes. No I/O.
//!
//! Every link is a veth pair with one end in a host and the other on a bridge in a switch's namespace, so that
//! the switches behave as real ones do: they learn MAC addresses, and a wrong source MAC shows.

use std::net::IpAddr;

/// The VIPs for direct routing, which every real server holds on `lo`.
pub const DIRECT_VIPS: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

/// The VIPs for NAT, in the clients' network, which only the director holds.
pub const NAT_VIPS: [&str; 2] = ["198.51.100.10", "2001:db8:100::10"];

/// With several directors, further VIPs: the real servers' default route, as NAT wants it, which so moves with the VIPs.
pub const GATEWAY_VIPS: [&str; 2] = ["192.0.2.9", "2001:db8::9"];

/// With several directors, yet more VIPs for direct routing, for many groups. A configuration has them where it is asked to:
/// see `Config::vip`.
pub const MORE_VIPS: [&str; 3] = ["192.0.2.31", "192.0.2.32", "192.0.2.33"];

/// The most directors that a lab has.
pub const MOST_DIRECTORS: u8 = 3;

/// Which machines a lab has.
#[derive(Clone, Debug)]
pub struct Options {
    /// Real servers on the server LAN: `real1`, `real2`, …
    pub reals: u8,
    /// MTU of every link.
    pub mtu: u32,
    /// Directors: 1 is `director`; more are `director1`, `director2`, …, without VIPs and with heartbeat links.
    pub directors: u8,
    /// A second segment behind the director's `eth1`, with the real server `back1`. Only with one director.
    pub back: bool,
    /// A router on the server LAN, with the real server `far1` behind it.
    pub router: bool,
    /// The director's `eth0` holds the VIPs, where it is the only one.
    pub vips: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { reals: 3, mtu: 1500, directors: 1, back: false, router: false, vips: true }
    }
}

/// All machines of a lab.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Namespaces that hold a bridge.
    pub switches: Vec<&'static str>,
    /// The others.
    pub hosts: Vec<HostPlan>,
}

/// A machine with addresses.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// Its name, and that of its ports on the switches.
    pub name: String,
    /// `eth0`, `eth1`, …
    pub ports: Vec<Port>,
    /// What `lo` holds besides the usual.
    pub loopback: Vec<IpAddr>,
    /// Arguments of `ip route add`.
    pub routes: Vec<String>,
    /// It forwards packets (the kernel does).
    pub forwards: bool,
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Port {
    /// The switch at the other end.
    pub switch: &'static str,
    /// Its addresses; the first of a family is the one that outgoing connections use.
    pub addresses: Vec<Address>,
    /// XDP will run on it, which its peer must be prepared for.
    pub xdp: bool,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the network's prefix.
    pub prefix: u8,
}

impl Plan {
    /// Lays out a lab.
    pub fn new(options: &Options) -> Plan {
        let mut plan = Plan { switches: vec!["switch"], hosts: Vec::new() };
        plan.hosts.push(client(options));
        if options.is_cluster() {
            plan.switches.push("hbswitch");
            plan.hosts.extend((1..=options.directors).map(|number| cluster_director(number, options)));
        } else {
            plan.hosts.push(director(options));
        }
        plan.hosts.extend((1..=options.reals).map(|number| lan_real(number, options)));
        if options.back {
            plan.switches.push("backswitch");
            plan.hosts.push(back_real());
        }
        if options.router {
            plan.switches.push("farswitch");
            plan.hosts.push(router(options));
            plan.hosts.push(far_real());
        }
        plan
    }
}

impl Options {
    /// Whether there are several directors.
    pub fn is_cluster(&self) -> bool {
        self.directors > 1
    }
}

impl Port {
    fn with_xdp(mut self) -> Self {
        self.xdp = true;
        self
    }
}

impl HostPlan {
    fn new(name: impl Into<String>, ports: Vec<Port>) -> Self {
        HostPlan { name: name.into(), ports, loopback: Vec::new(), routes: Vec::new(), forwards: false }
    }

    fn default_routes(mut self, gateways: [&str; 2]) -> Self {
        // Not "default", which would not tell `ip` the family.
        self.routes = routes(["0.0.0.0/0", "::/0"], gateways);
        self
    }

    fn holding_direct_vips(mut self) -> Self {
        self.loopback = DIRECT_VIPS.iter().map(|vip| address(vip)).collect();
        self
    }

    /// All addresses that the machine answers at, besides `127.0.0.1` and `::1`.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let on_ports = self.ports.iter().flat_map(|port| &port.addresses).map(|address| address.ip);
        on_ports.chain(self.loopback.iter().copied()).collect()
    }
}

fn client(options: &Options) -> HostPlan {
    let networks = ["192.0.2.100/24", "198.51.100.100/24", "2001:db8::100/64", "2001:db8:100::100/64"];
    let mut client = HostPlan::new("client", vec![port("switch", &networks)]);
    if options.router {
        // Only to reach `far1` with no director between, for comparison.
        client.routes = far_routes();
    }
    client
}

fn director(options: &Options) -> HostPlan {
    let networks = ["192.0.2.11/24", "198.51.100.11/24", "2001:db8::11/64", "2001:db8:100::11/64"];
    let mut eth0 = port("switch", &networks);
    if options.vips {
        let vips = DIRECT_VIPS.into_iter().chain(NAT_VIPS).map(address);
        eth0.addresses.extend(vips.map(|ip| Address { ip, prefix: if ip.is_ipv4() { 32 } else { 128 } }));
    }
    let mut director = HostPlan::new("director", vec![eth0.with_xdp()]);
    if options.back {
        director.ports.push(port("backswitch", &["203.0.113.11/24", "2001:db8:113::11/64"]).with_xdp());
    }
    if options.router {
        director.routes = far_routes();
    }
    director
}

/// One of several: the VIPs are the daemon's to add, and heartbeats have a network of their own.
fn cluster_director(number: u8, options: &Options) -> HostPlan {
    let last = 10 + u32::from(number);
    let networks = ["192.0.2.", "198.51.100.", "2001:db8::", "2001:db8:100::"]
        .map(|network| format!("{network}{last}/{}", if network.ends_with(':') { 64 } else { 24 }));
    let eth0 = port("switch", &networks.each_ref().map(String::as_str)).with_xdp();
    let [heartbeat4, heartbeat6] = [format!("10.255.0.{last}/24"), format!("2001:db8:255::{last}/64")];
    let eth1 = port("hbswitch", &[&heartbeat4, &heartbeat6]);
    let mut director = HostPlan::new(format!("director{number}"), vec![eth0, eth1]);
    if options.router {
        director.routes = far_routes();
    }
    director
}

fn lan_real(number: u8, options: &Options) -> HostPlan {
    let last = 20 + u32::from(number);
    let networks = [format!("192.0.2.{last}/24"), format!("2001:db8::{last}/64")];
    let port = port("switch", &[&networks[0], &networks[1]]);
    let mut real = HostPlan::new(format!("real{number}"), vec![port])
        .holding_direct_vips()
        .default_routes(gateways(options));
    if options.is_cluster() {
        real.loopback.extend(MORE_VIPS.map(address));
    }
    real
}

fn back_real() -> HostPlan {
    HostPlan::new("back1", vec![port("backswitch", &["203.0.113.21/24", "2001:db8:113::21/64"])])
        .holding_direct_vips()
        .default_routes(["203.0.113.11", "2001:db8:113::11"])
}

fn router(options: &Options) -> HostPlan {
    let lan = port("switch", &["192.0.2.1/24", "2001:db8::1/64"]);
    let far = port("farswitch", &["198.18.0.1/24", "2001:db8:18::1/64"]);
    let mut router = HostPlan::new("router", vec![lan, far]).default_routes(gateways(options));
    router.forwards = true;
    router
}

fn far_real() -> HostPlan {
    HostPlan::new("far1", vec![port("farswitch", &["198.18.0.21/24", "2001:db8:18::21/64"])])
        .default_routes(["198.18.0.1", "2001:db8:18::1"])
}

/// Where what is not on the server LAN is sent, so that NAT's answers pass the director.
fn gateways(options: &Options) -> [&'static str; 2] {
    if options.is_cluster() { GATEWAY_VIPS } else { ["192.0.2.11", "2001:db8::11"] }
}

fn far_routes() -> Vec<String> {
    routes(["198.18.0.0/24", "2001:db8:18::/64"], ["192.0.2.1", "2001:db8::1"])
}

fn port(switch: &'static str, networks: &[&str]) -> Port {
    let addresses = networks.iter().map(|network| network_address(network)).collect();
    Port { switch, addresses, xdp: false }
}

fn routes(networks: [&str; 2], gateways: [&str; 2]) -> Vec<String> {
    networks.iter().zip(gateways).map(|(network, gateway)| format!("{network} via {gateway}")).collect()
}

fn network_address(text: &str) -> Address {
    let (ip, prefix) = text.split_once('/').expect("a plan's address has a prefix length");
    Address { ip: address(ip), prefix: prefix.parse().expect("a plan's prefix length is a number") }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("a plan's address is well formed")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_address_is_given_twice_but_the_vips() {
        for directors in 1..=MOST_DIRECTORS {
            let plan = Plan::new(&Options {
                reals: 20,
                directors,
                back: directors == 1,
                router: true,
                ..Options::default()
            });
            let mut seen = HashSet::new();
            for host in &plan.hosts {
                for address in host.ports.iter().flat_map(|port| &port.addresses) {
                    assert!(seen.insert(address.ip), "{} twice", address.ip);
                }
            }
        }
    }

    #[test]
    fn every_port_leads_to_a_switch_of_the_plan() {
        for (back, router) in [(false, false), (true, false), (false, true), (true, true)] {
            let plan = Plan::new(&Options { back, router, ..Options::default() });
            let ports = plan.hosts.iter().flat_map(|host| &host.ports);
            assert!(ports.clone().all(|port| plan.switches.contains(&port.switch)));
            assert_eq!(plan.switches.len(), 1 + usize::from(back) + usize::from(router));
        }
    }

    #[test]
    fn no_director_of_several_holds_a_vip_or_leads_out_by_its_own_address() {
        let plan = Plan::new(&Options { directors: 3, router: true, ..Options::default() });
        let directors: Vec<_> = plan.hosts.iter().filter(|host| host.name.starts_with("director")).collect();
        assert_eq!(
            directors.iter().map(|host| &host.name[..]).collect::<Vec<_>>(),
            ["director1", "director2", "director3"]
        );
        let vips: Vec<IpAddr> = [&DIRECT_VIPS[..], &NAT_VIPS, &GATEWAY_VIPS, &MORE_VIPS]
            .concat()
            .into_iter()
            .map(address)
            .collect();
        for director in &directors {
            assert!(director.addresses().iter().all(|ip| !vips.contains(ip)), "{director:?}");
            assert_eq!(director.ports.iter().map(|port| port.xdp).collect::<Vec<_>>(), [true, false]);
        }
        let own: Vec<String> =
            directors.iter().flat_map(|host| host.addresses()).map(|ip| ip.to_string()).collect();
        for route in plan.hosts.iter().flat_map(|host| &host.routes) {
            assert!(!own.iter().any(|ip| route.ends_with(&format!(" via {ip}"))), "{route}");
        }
    }
}
