//! Dovecot: POP3 and IMAP.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::real::{Place, Server, is_root, port, v4, v6};

/// Who may log in. The password has what needs quotes, and what is not ASCII.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "pä\"ss w\\rd}";

/// Where it sees us come from another host: to those on its own it always gives more trust.
pub fn afar(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 2], port))
}

/// Dovecot, with STARTTLS and with TLS from the first byte.
pub struct Dovecot {
    pub pop: u16,
    pub pops: u16,
    pub imap: u16,
    pub imaps: u16,
    pub authority: PathBuf,
    _server: Server,
}

impl Dovecot {
    /// Starts one. `open`: whether it takes passwords without TLS.
    pub fn start(open: bool) -> Dovecot {
        let place = Place::new();
        let [pop, pops, imap, imaps] = [(); 4].map(|()| port());
        place.directory("mail", 0o777);
        place.write("users", &format!("{USER}:{{PLAIN}}{PASSWORD}\n"));
        let config = format!(
            "base_dir = {run}\nlog_path = /dev/stderr\nprotocols = imap pop3\nlisten = 127.0.0.1, 127.0.0.2, ::1\n\
             ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}\n\
             disable_plaintext_auth = {closed}\nauth_mechanisms = plain\nauth_failure_delay = 0\n\
             mail_location = maildir:{mail}/%u\n{users}\
             passdb {{\n driver = passwd-file\n args = {passwords}\n}}\n\
             userdb {{\n driver = static\n args = {owner} home={mail}/%u\n}}\n\
             service imap-login {{\n chroot =\n\
             inet_listener imap {{\n port = {imap}\n}}\ninet_listener imaps {{\n port = {imaps}\n ssl = yes\n}}\n}}\n\
             service pop3-login {{\n chroot =\n\
             inet_listener pop3 {{\n port = {pop}\n}}\ninet_listener pop3s {{\n port = {pops}\n ssl = yes\n}}\n}}\n\
             service anvil {{\n chroot =\nunix_listener anvil-auth-penalty {{\n mode = 0\n}}\n}}\nservice stats {{\n chroot =\n}}\n",
            run = place.text("run"),
            certificate = place.text("certificate.pem"),
            key = place.text("key.pem"),
            closed = if open { "no" } else { "yes" },
            mail = place.text("mail"),
            users = users(),
            passwords = place.text("users"),
            owner = owner(),
        );
        let authority = place.authority();
        let config = place.write("dovecot.conf", &config);
        let arguments = ["-F", "-c", config.to_str().unwrap()];
        let listens = [v4(pop), v6(pop), v4(pops), v4(imap), v6(imap), v4(imaps)];
        let server = place.start("dovecot", &arguments, &listens);
        Dovecot { pop, pops, imap, imaps, authority, _server: server }
    }
}

/// Who its processes are: where we are not root, all of them are us.
fn users() -> String {
    if is_root() {
        return String::new();
    }
    let (user, group) = (named("-un"), named("-gn"));
    format!("default_internal_user = {user}\ndefault_login_user = {user}\ndefault_internal_group = {group}\n")
}

fn owner() -> String {
    if is_root() {
        "uid=nobody gid=nogroup".into()
    } else {
        format!("uid={} gid={}", named("-u"), named("-g"))
    }
}

fn named(option: &str) -> String {
    let output = std::process::Command::new("id").arg(option).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
