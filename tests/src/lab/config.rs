//! Configurations for the director under test.

use std::fmt::Write;

use super::cluster::Cluster;
use super::plan::{DIRECT_VIPS, GATEWAY_VIPS, NAT_VIPS};

/// A configuration as text; what is not set here can be added as lines of YAML.
#[derive(Clone, Debug)]
pub struct Config {
    interfaces: Vec<String>,
    cluster: Option<Cluster>,
    networks: bool,
    more_vips: Vec<String>,
    groups: Vec<(String, String)>,
    services: Vec<Service>,
    lines: Vec<String>,
}

/// A service and its real servers.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    lines: Vec<String>,
    reals: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config::new()
    }
}

impl Config {
    /// With XDP on `eth0` and the lab's VIPs.
    pub fn new() -> Config {
        Config {
            interfaces: vec!["eth0".into()],
            cluster: None,
            networks: false,
            more_vips: Vec::new(),
            groups: Vec::new(),
            services: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// With XDP on a further interface.
    pub fn interface(mut self, name: &str) -> Self {
        self.interfaces.push(name.into());
        self
    }

    /// For several directors: with the section `heartbeat`, and with the VIPs that are the real servers' gateways.
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// VIPs with their networks' prefixes (/24, /64) in place of /32 and /128.
    pub fn network_prefixes(mut self) -> Self {
        self.networks = true;
        self
    }

    /// With a further VIP.
    pub fn vip(mut self, vip: &str) -> Self {
        self.more_vips.push(vip.into());
        self
    }

    /// Puts a VIP into a group; all others are in the one that needs no name.
    pub fn group(mut self, vip: &str, group: &str) -> Self {
        self.groups.push((vip.into(), group.into()));
        self
    }

    /// With a further service.
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// With a further line at the top level, such as `limits: { flows: 1024 }`.
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.into());
        self
    }

    /// The YAML.
    pub fn yaml(&self) -> String {
        let mut yaml = format!("interfaces: [{}]\nvips:\n", self.interfaces.join(", "));
        let gateways = GATEWAY_VIPS.into_iter().filter(|_| self.cluster.is_some());
        for vip in DIRECT_VIPS.into_iter().chain(NAT_VIPS).chain(gateways) {
            push(&mut yaml, &self.vip_line(vip));
        }
        for vip in &self.more_vips {
            push(&mut yaml, &self.vip_line(vip));
        }
        if let Some(cluster) = &self.cluster {
            yaml += &cluster.yaml();
        }
        self.lines.iter().for_each(|line| push(&mut yaml, line));
        push(&mut yaml, "services:");
        self.services.iter().for_each(|service| service.write(&mut yaml));
        yaml
    }

    fn vip_line(&self, vip: &str) -> String {
        let prefix = match (self.networks, vip.contains(':')) {
            (false, false) => 32,
            (false, true) => 128,
            (true, false) => 24,
            (true, true) => 64,
        };
        let group = self.groups.iter().find(|(grouped, _)| grouped == vip);
        let group = group.map_or_else(String::new, |(_, group)| format!(", group: {group}"));
        format!("  - {{ address: \"{vip}/{prefix}\", interface: eth0{group} }}")
    }
}

impl From<Config> for String {
    fn from(config: Config) -> String {
        config.yaml()
    }
}

impl From<&Config> for String {
    fn from(config: &Config) -> String {
        config.yaml()
    }
}

impl Service {
    /// A TCP service of one port, forwarded directly, by round robin.
    pub fn tcp(name: &str, vip: &str, port: u16) -> Service {
        Service::new(name, vip, "tcp", port)
    }

    /// A UDP service of one port, forwarded directly, by round robin.
    pub fn udp(name: &str, vip: &str, port: u16) -> Service {
        Service::new(name, vip, "udp", port)
    }

    fn new(name: &str, vip: &str, protocol: &str, port: u16) -> Service {
        let service = Service { name: name.into(), lines: Vec::new(), reals: Vec::new() };
        let service = service.set("address", &format!("\"{vip}\"")).set("protocol", protocol);
        service.set("port", &port.to_string()).set("forward", "direct").set("scheduler", "rr")
    }

    /// Whether its VIP is an IPv6 address.
    pub fn is_v6(&self) -> bool {
        self.lines.iter().any(|line| line.starts_with("address: ") && line.contains("::"))
    }

    /// Sets a key of the service to a value in YAML, in place of what it was.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let start = format!("{key}: ");
        self.lines.retain(|line| !line.starts_with(&start));
        self.lines.push(start + value);
        self
    }

    /// Takes several ports, such as `[80, 8080]`, `8000-8010` or `any`.
    pub fn ports(mut self, ports: &str) -> Self {
        self.lines.retain(|line| !line.starts_with("port"));
        let key = if ports == "any" { "port" } else { "ports" };
        self.set(key, ports)
    }

    /// Forwarded by NAT.
    pub fn nat(self) -> Self {
        self.set("forward", "nat")
    }

    /// Scheduled by `rr`, `wrr`, `mh`, …
    pub fn scheduler(self, name: &str) -> Self {
        self.set("scheduler", name)
    }

    /// With a real server.
    pub fn real(mut self, address: &str, weight: u16) -> Self {
        self.reals.push(format!("{{ address: \"{address}\", weight: {weight} }}"));
        self
    }

    /// With a real server whose port is not the service's.
    pub fn real_at(mut self, address: &str, port: u16, weight: u16) -> Self {
        self.reals.push(format!("{{ address: \"{address}\", port: {port}, weight: {weight} }}"));
        self
    }

    fn write(&self, yaml: &mut String) {
        push(yaml, &format!("  - name: {}", self.name));
        self.lines.iter().for_each(|line| push(yaml, &format!("    {line}")));
        push(yaml, "    reals:");
        self.reals.iter().for_each(|real| push(yaml, &format!("      - {real}")));
    }
}

fn push(yaml: &mut String, line: &str) {
    writeln!(yaml, "{line}").expect("a String takes whatever is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_reads_as_one_would_write_it() {
        let web = Service::tcp("web", "192.0.2.10", 80).scheduler("wrr").ports("8000-8010");
        let yaml = Config::new().service(web.real("192.0.2.21", 3)).yaml();
        let expected = "services:\n  - name: web\n    address: \"192.0.2.10\"\n    protocol: tcp\n    \
                        forward: direct\n    scheduler: wrr\n    ports: 8000-8010\n    reals:\n      \
                        - { address: \"192.0.2.21\", weight: 3 }\n";
        assert!(yaml.ends_with(expected), "{yaml}");
    }

    #[test]
    fn what_the_lab_writes_fits_the_schema() {
        let service = Service::udp("web", "2001:db8::10", 80).nat().scheduler("mh").ports("[80, 8000-8010]");
        let service = service.set("persistence", "{ timeout: 10s }").set("unserved", "reject");
        let service = service.real_at("2001:db8::21", 8080, 0).real("2001:db8::22", 2);
        let cluster = Cluster::new(3, "/run/key".as_ref()).line("quorum: majority\nfailback: 5s");
        let cluster = cluster.links(&["multicast: \"239.255.0.1:694\", interface: eth1", "udp: 10.255.0.{}"]);
        let alone = Config::new().interface("eth1").vip("192.0.2.99").service(service);
        let all = alone.clone().cluster(cluster).group("192.0.2.99", "blue").line("limits: { flows: 1024 }");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("schema", director::config::reference::schema()).unwrap();
        let schema = compiler.compile("schema", &mut schemas).unwrap();
        for config in [Config::new(), alone, all] {
            // Without services there is no list of them.
            let yaml = config
                .yaml()
                .replace("services:\n", "services: []\n")
                .replace("services: []\n  -", "services:\n  -");
            let value = director::config::reference::as_json(&yaml).expect("YAML");
            schemas.validate(&value, schema).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        }
    }

    #[test]
    fn a_clusters_vips_have_their_gateways_prefixes_and_groups() {
        let vips = |config: Config| {
            let yaml = config.yaml();
            yaml.lines()
                .filter(|line| line.starts_with("  - { address"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(vips(Config::new()).len(), 4);
        let cluster = Cluster::new(2, "/run/key".as_ref());
        let vips = vips(Config::new().cluster(cluster).network_prefixes().group("198.51.100.10", "nat"));
        assert_eq!(
            vips,
            [
                "  - { address: \"192.0.2.10/24\", interface: eth0 }",
                "  - { address: \"2001:db8::10/64\", interface: eth0 }",
                "  - { address: \"198.51.100.10/24\", interface: eth0, group: nat }",
                "  - { address: \"2001:db8:100::10/64\", interface: eth0 }",
                "  - { address: \"192.0.2.9/24\", interface: eth0 }",
                "  - { address: \"2001:db8::9/64\", interface: eth0 }",
            ]
        );
    }
}
