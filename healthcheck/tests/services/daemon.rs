//! Real servers: each of its own in a directory of its own, and gone when the test is over, also when it failed.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use healthcheck::spec::Tls;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take to start, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory for one server.
pub struct Place {
    directory: TempDir,
    /// Who it belongs to, where the tests run as root and the server shall not.
    user: Option<&'static str>,
}

/// A server that runs.
pub struct Daemon {
    child: Child,
    stop: Signal,
    /// Goes after the server does.
    place: Place,
}

impl Place {
    /// A new one, for a server that is to run as this user.
    pub fn new(user: &'static str) -> Place {
        let directory = TempDir::new().unwrap();
        let place = Place { directory, user: rustix::process::geteuid().is_root().then_some(user) };
        place.own(place.path());
        place
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into it that only the server reads. `DIR` in its text becomes the directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text.replace("DIR", self.path().to_str().unwrap())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.own(&path);
        path
    }

    /// Makes a directory in it.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir(&path).unwrap();
        self.own(&path);
        path
    }

    fn own(&self, path: &Path) {
        if let Some(user) = self.user {
            assert!(Command::new("chown").arg(user).arg(path).status().unwrap().success());
        }
    }

    /// A command, as the server's user. `DIR` in its arguments becomes the directory, and `+` a space within one.
    pub fn command(&self, arguments: &str) -> Command {
        let arguments = arguments.replace("DIR", self.path().to_str().unwrap());
        let mut words = arguments.split_whitespace().map(|word| word.replace('+', " "));
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                // Even a test that is killed takes its server along.
                command.args(["--reuid", user, "--regid", user, "--init-groups", "--pdeathsig", "KILL"]);
                command
            }
            None => Command::new(words.next().unwrap()),
        };
        // Debian keeps daemons where only root looks.
        let path = std::env::var("PATH").unwrap_or_default();
        command.args(words).current_dir(self.path()).env("PATH", format!("{path}:/usr/sbin:/sbin"));
        // Two MariaDBs that are set up at once take each other's temporary tables in /tmp.
        command.env("TMPDIR", self.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &str) {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}{}", text(&output.stdout), text(&output.stderr));
    }

    /// Starts a server, and waits until it answers: until `ready` says so. `stop` ends it.
    pub async fn start(self, arguments: &str, stop: Signal, mut ready: impl AsyncFnMut() -> bool) -> Daemon {
        let log = fs::File::create(self.path().join("log")).unwrap();
        let mut command = self.command(arguments);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{arguments}: {error}"));
        let mut daemon = Daemon { child, stop, place: self };
        let begin = Instant::now();
        while !ready().await {
            let ended = daemon.child.try_wait().unwrap();
            if ended.is_some() || begin.elapsed() > PATIENCE {
                panic!("{arguments}: {ended:?}\n{}", daemon.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        daemon
    }
}

impl Daemon {
    /// What it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, self.stop);
        }
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A port that was free a moment ago.
pub fn port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

/// Whether somebody accepts connections there.
pub async fn accepts(address: SocketAddr) -> bool {
    let connected: io::Result<_> = tokio::net::TcpStream::connect(address).await;
    connected.is_ok()
}

/// An authority and a server's certificate, for 127.0.0.1, by it.
pub struct Certificates {
    /// The authority's, as PEM.
    pub authority: String,
    /// The server's, as PEM.
    pub certificate: String,
    /// Its key, as PEM.
    pub key: String,
}

impl Certificates {
    /// New ones.
    pub fn new() -> Certificates {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "an authority");
        let certificate = authority.self_signed(&key).unwrap();
        let issuer = Issuer::new(authority, key);
        let server_key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        Certificates {
            authority: certificate.pem(),
            certificate: server.signed_by(&server_key, &issuer).unwrap().pem(),
            key: server_key.serialize_pem(),
        }
    }

    /// Writes them where a server finds them: `ca.pem`, `cert.pem`, `key.pem`; and what trusts them.
    pub fn write(&self, place: &Place) -> Tls {
        let authorities = place.write("ca.pem", &self.authority);
        place.write("cert.pem", &self.certificate);
        place.write("key.pem", &self.key);
        Tls { verify: true, authorities: Some(authorities), ..Tls::default() }
    }
}
