//! A real nginx, of one process, with a port for each way to speak with it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::authority::{Authority, Pair};
use crate::kit::PATIENCE;

/// A running nginx; it ends when this is dropped.
pub struct Nginx {
    pub plain: SocketAddr,
    /// HTTP/2 by prior knowledge.
    pub plain_h2: SocketAddr,
    pub tls: SocketAddr,
    pub tls_h2: SocketAddr,
    /// Its certificate has expired.
    pub expired: SocketAddr,
    /// It wants a certificate of the client's.
    pub mutual: SocketAddr,
    pub authority: Authority,
    pub directory: TempDir,
    child: Child,
}

impl Nginx {
    /// Starts one, and waits until it listens.
    pub fn start() -> Nginx {
        let directory = TempDir::new().unwrap();
        let authority = Authority::new(directory.path(), "authority");
        // Others may take a port between its choice and nginx's start.
        for _ in 0..5 {
            let ports = free_ports();
            let config = directory.path().join("nginx.conf");
            fs::write(directory.path().join("places"), PLACES).unwrap();
            fs::write(&config, configuration(directory.path(), &authority, ports)).unwrap();
            let mut child = Command::new("/usr/sbin/nginx")
                .args([
                    "-p".as_ref(),
                    directory.path(),
                    "-e".as_ref(),
                    "error.log".as_ref(),
                    "-c".as_ref(),
                    &config,
                ])
                .stderr(Stdio::null())
                .spawn()
                .expect("nginx (Debian's package nginx)");
            if listens(&mut child, ports) {
                let [plain, plain_h2, tls, tls_h2, expired, mutual] = ports;
                return Nginx { plain, plain_h2, tls, tls_h2, expired, mutual, authority, directory, child };
            }
        }
        panic!("nginx: {}", fs::read_to_string(directory.path().join("error.log")).unwrap_or_default());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that were all free at one time.
fn free_ports() -> [SocketAddr; 6] {
    let listeners = [(); 6].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

fn listens(child: &mut Child, ports: [SocketAddr; 6]) -> bool {
    let started = Instant::now();
    while ports.iter().any(|port| TcpStream::connect(port).is_err()) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(started.elapsed() < PATIENCE, "nginx does not listen");
        thread::sleep(Duration::from_millis(5));
    }
    true
}

fn configuration(directory: &Path, authority: &Authority, ports: [SocketAddr; 6]) -> String {
    let [plain, plain_h2, tls, tls_h2, expired, mutual] = ports;
    let certificate = |pair: Pair| {
        format!("ssl_certificate {}; ssl_certificate_key {};", pair.certificate.display(), pair.key.display())
    };
    let good = certificate(authority.server());
    let old = certificate(authority.expired());
    let (directory, authority) = (directory.display(), authority.pem.display());
    format!(
        "daemon off; master_process off; pid nginx.pid; worker_rlimit_nofile 1024;
        events {{ worker_connections 256; }}
        http {{
            access_log off; default_type text/plain;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            server {{ listen {plain}; include {directory}/places; }}
            server {{ listen {plain_h2} http2; include {directory}/places; }}
            server {{ listen {tls} ssl; {good} include {directory}/places; }}
            server {{ listen {tls_h2} ssl http2; {good} include {directory}/places; }}
            server {{ listen {expired} ssl; {old} include {directory}/places; }}
            server {{ listen {mutual} ssl; {good} ssl_verify_client on; ssl_client_certificate {authority};
                include {directory}/places; }}
        }}"
    )
}

const PLACES: &str = r#"
location = / { return 200 "all is well\n"; }
location = /echo { return 200 "$server_protocol $request_method $host $http_x_token $ssl_server_name $ssl_client_s_dn."; }
location = /reused { return 200 "$ssl_session_reused"; }
location = /busy { return 503 "busy\n"; }
location = /weight { add_header X-Weight 42; return 200 "load: low\nweight: 17\n"; }
location = /heavy { add_header X-Weight 65536; return 200 "weight: heavy"; }
location = /moved { return 301 /echo; }
location = /away { return 302 http://other.example.org/echo; }
location = /safe { return 302 https://other.example.org/echo; }
location = /loop { return 302 /loop; }
"#;
