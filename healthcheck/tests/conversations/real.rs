//! Real servers, each with a directory and a configuration of its own, gone when the test is.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, getuid, kill_process_group};
use tempfile::TempDir;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end when it is asked to.
const END: Duration = Duration::from_secs(3);

/// Whom the certificates of these servers are for.
pub const NAME: &str = "real.example";

/// A directory that servers can enter whoever they become, with a certificate for [`NAME`].
pub struct Place {
    dir: TempDir,
}

/// A server that runs until this is dropped.
pub struct Server {
    child: Child,
    log: PathBuf,
    place: Place,
}

impl Place {
    pub fn new() -> Place {
        let place = Place { dir: TempDir::new().unwrap() };
        fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut authority = CertificateParams::new(vec![]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Each has a name of its own: it is told apart from others by that, and only then by its key.
        authority.distinguished_name.push(DnType::CommonName, place.text(""));
        let key = KeyPair::generate().unwrap();
        place.write("authority.pem", &authority.self_signed(&key).unwrap().pem());
        let authority = Issuer::new(authority, key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &authority);
        place.write("certificate.pem", &certificate.unwrap().pem());
        place.write("key.pem", &key.serialize_pem());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The path as configurations have it.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// A directory within that anybody may write to.
    pub fn directory(&self, name: &str, mode: u32) -> String {
        fs::create_dir_all(self.path(name)).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        self.text(name)
    }

    pub fn authority(&self) -> PathBuf {
        self.path("authority.pem")
    }

    /// Starts a server here, and waits until it accepts connections to all of these.
    pub fn start(self, program: &str, arguments: &[&str], listens: &[SocketAddr]) -> Server {
        let log = self.path("log");
        let file = fs::File::create(&log).unwrap();
        let child = Command::new(find(program))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .process_group(0)
            .spawn()
            .unwrap();
        let mut server = Server { child, log, place: self };
        let until = Instant::now() + START;
        for listen in listens {
            while TcpStream::connect(listen).is_err() {
                let ended = server.child.try_wait().unwrap();
                assert!(ended.is_none() && Instant::now() < until, "{program}: {ended:?}\n{}", server.log());
                thread::sleep(Duration::from_millis(10));
            }
        }
        server
    }
}

impl Server {
    /// Something in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::TERM);
        let until = Instant::now() + END;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// A port that is free for TCP and UDP, IPv4 and IPv6.
pub fn port() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        if std::net::UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}

pub fn v4(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub fn v6(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::LOCALHOST, port))
}

pub fn is_root() -> bool {
    getuid().is_root()
}

/// Plain users' PATH does not lead to Debian's servers.
fn find(program: &str) -> PathBuf {
    let places = ["/usr/sbin", "/usr/bin"].map(|place| Path::new(place).join(program));
    places.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{program} is not installed"))
}
