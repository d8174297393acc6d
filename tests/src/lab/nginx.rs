//! A real server's nginx.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::host::Host;
use super::process::Process;
use crate::wait;

/// Where it listens, on IPv4 and IPv6.
pub const PORTS: [u16; 13] = [80, 8080, 8000, 8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8009, 8010];

/// The size of `/big`.
pub const BIG_BYTES: u64 = 64 << 20;

/// Its name in the lab's directory.
pub(super) const BIG_FILE: &str = "big";

/// A running nginx. `/` answers with the host's name, `/health` with OK (unless it is made sick or slow), `/big` with a large file, and a PUT to
/// `/upload/NAME` is kept. Every answer names the host in `X-Real`.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    directory: PathBuf,
}

impl Nginx {
    pub(super) fn start(host: &Host, lab_directory: &Path) -> Result<Nginx> {
        let directory = lab_directory.join(format!("nginx-{}", host.name()));
        fs::create_dir_all(directory.join("upload"))?;
        let config = directory.join("nginx.conf");
        fs::write(&config, configuration(host.name(), &directory, lab_directory))?;
        let log = directory.join("error.log");
        let mut command = host.command("nginx");
        command.arg("-e").arg(&log).arg("-p").arg(&directory).arg("-c").arg(&config);
        let mut process = Process::start(command.stdout(File::create(&log)?).stderr(File::create(&log)?))
            .with_context(|| format!("on {}; `cargo xtask setup` installs nginx", host.name()))?;
        let what = format!("nginx on {} to listen", host.name());
        host.within(|| wait::until(&what, Duration::from_secs(10), || listens(&mut process, &log)))?;
        Ok(Nginx { process, directory })
    }

    /// Lets new connections be refused and those at hand finish, as `nginx -s quit` does.
    pub fn quit(mut self) -> Result<()> {
        self.process.signal(Signal::QUIT)?;
        self.process.wait(Duration::from_secs(10)).map(drop)
    }

    /// Makes `/health` answer with status 503, or well again.
    pub fn set_sick(&self, sick: bool) -> Result<()> {
        self.set("sick", sick)
    }

    /// Makes `/health` give one byte a second, or answer at once again.
    pub fn set_slow(&self, slow: bool) -> Result<()> {
        self.set("slow", slow)
    }

    fn set(&self, file: &str, there: bool) -> Result<()> {
        let file = self.directory.join(file);
        if there {
            fs::write(file, "")?
        } else {
            fs::remove_file(file)?
        }
        Ok(())
    }

    /// Stops all its processes as they are: the kernel goes on to accept connections for them. Or lets them go on.
    pub fn set_frozen(&self, frozen: bool) -> Result<()> {
        self.process.signal_group(if frozen { Signal::STOP } else { Signal::CONT })
    }

    /// Where a file that was PUT to `/upload/NAME` is found.
    pub fn uploaded(&self, name: &str) -> PathBuf {
        self.directory.join("upload").join(name)
    }

    /// Lets it go on after this program.
    pub fn keep(self) {
        self.process.keep();
    }
}

/// All its ports are opened before the first worker accepts, so one that answers stands for all.
fn listens(process: &mut Process, log: &Path) -> Result<Option<()>> {
    if !process.is_running() {
        bail!("nginx ended:\n{}", fs::read_to_string(log).unwrap_or_default());
    }
    Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, PORTS[0])).ok().map(drop))
}

fn configuration(host: &str, directory: &Path, lab_directory: &Path) -> String {
    let listens: String = PORTS
        .iter()
        .map(|port| format!("    listen {port} backlog=4096; listen [::]:{port} backlog=4096;\n"))
        .collect();
    let directory = directory.display();
    let big = lab_directory.join(BIG_FILE);
    format!(
        r#"daemon off;
user root;
worker_processes 1;
pid {directory}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  default_type text/plain;
  sendfile on;
  keepalive_timeout 75s;
  server {{
{listens}    server_name _;
    add_header X-Real {host} always;
    location = / {{ return 200 "{host}\n"; }}
    location = /health {{
      if (-f {directory}/sick) {{ return 503 "sick\n"; }}
      if (-f {directory}/slow) {{ set $limit_rate 1; }}
      return 200 "OK, and well\n";
    }}
    location = /big {{ alias {big}; }}
    location /upload/ {{
      root {directory};
      dav_methods PUT;
      client_max_body_size 0;
    }}
  }}
}}
"#,
        big = big.display()
    )
}

/// Fills the file with bytes that do not repeat, so that a piece which is lost, doubled or moved shows.
pub(super) fn write_big_file(path: &Path) -> Result<()> {
    let mut random = File::open("/dev/urandom")?.take(BIG_BYTES);
    io::copy(&mut random, &mut File::create(path)?)?;
    Ok(())
}
