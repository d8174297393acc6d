//! A private BIND with zones that take signed updates, and those who look at it and change it.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The base64 of 32 bytes.
pub const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0ISE=";

const CONFIG: &str = r#"
options {
    directory "DIR"; pid-file "DIR/pid"; session-keyfile "DIR/session.key";
    listen-on port PORT { 127.0.0.1; }; listen-on-v6 { none; };
    recursion no; dnssec-validation no; notify no;
};
controls { };
key "lb" { algorithm hmac-sha256; secret "SECRET"; };
key "lb384" { algorithm hmac-sha384; secret "SECRET"; };
key "lb512" { algorithm hmac-sha512; secret "SECRET"; };
key "weak" { algorithm hmac-sha256; secret "SECRET"; };
zone "example.test" {
    type primary; file "zone";
    allow-update { key "lb"; key "lb384"; key "lb512"; };
};
zone "other.test" { type primary; file "other"; };
"#;

const ZONE: &str = "$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 192.0.2.53
www 300 A 192.0.2.12
www 300 A 192.0.2.112
www 300 AAAA 2001:db8::12
www TXT \"stays\"
alias CNAME www
";

/// A BIND in a directory of its own; both go when this does.
pub struct Named {
    pub place: TempDir,
    pub address: SocketAddr,
    child: Option<Child>,
}

impl Named {
    /// A new one that answers.
    pub fn new() -> Named {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
        let mut named = Named { place: TempDir::new().unwrap(), address, child: None };
        let config = CONFIG
            .replace("DIR", named.place.path().to_str().unwrap())
            .replace("PORT", &address.port().to_string())
            .replace("SECRET", SECRET);
        fs::write(named.place.path().join("named.conf"), config).unwrap();
        ["zone", "other"].iter().for_each(|file| fs::write(named.place.path().join(file), ZONE).unwrap());
        named.start();
        named
    }

    /// Starts it, where it was before.
    pub fn start(&mut self) {
        let directory = self.place.path();
        let log = fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let mut command = if rustix::process::geteuid().is_root() {
            assert!(Command::new("chown").args(["-R", "bind"]).arg(directory).status().unwrap().success());
            let mut command = Command::new("setpriv");
            // Even a test that is killed takes its server along.
            command.args([
                "--reuid",
                "bind",
                "--regid",
                "bind",
                "--init-groups",
                "--pdeathsig",
                "KILL",
                "named",
            ]);
            command
        } else {
            Command::new("named")
        };
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .args(["-4", "-g", "-n", "1", "-c"])
            .arg(directory.join("named.conf"))
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = command.spawn().unwrap();
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = child.try_wait().unwrap();
            let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
            assert!(ended.is_none() && begin.elapsed() < PATIENCE, "{ended:?}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child = Some(child);
    }

    /// Stops it; its zones stay.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let begin = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if begin.elapsed() > PATIENCE {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A name's records as `TTL TYPE DATA`, sorted.
    pub fn dig(&self, name: &str) -> Vec<String> {
        let mut all = Vec::new();
        for kind in ["A", "AAAA", "TXT"] {
            let port = self.address.port().to_string();
            let arguments = ["@127.0.0.1", "-p", &port, name, kind, "+noall", "+answer", "+tcp"];
            let output = Command::new("dig").args(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            all.extend(text.lines().map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                [words[1], words[3], words[4]].join(" ")
            }));
        }
        all.sort();
        all
    }

    /// Changes the zone as somebody else.
    pub fn nsupdate(&self, commands: &str) {
        let key = format!("hmac-sha256:lb:{SECRET}");
        let mut child =
            Command::new("nsupdate").args(["-v", "-y", &key]).stdin(Stdio::piped()).spawn().unwrap();
        let text = format!("server 127.0.0.1 {}\nzone example.test\n{commands}\nsend\n", self.address.port());
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.stop();
    }
}
