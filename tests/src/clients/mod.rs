//! Clients that load a service and say what they saw.

mod arp;
mod browser;
mod connects;
mod curl;
mod http;
mod marked;
mod pace;
mod prober;
mod probes;
mod session;
mod terminal;
mod udp;
mod wrk;

pub use arp::{ArpWatch, Kind, Sighting};
pub use browser::Browser;
pub use connects::Connects;
pub use curl::{Answers, Curl, Download, Upload, download, upload};
pub use http::fetch_from_port;
pub use marked::Marked;
pub use prober::Prober;
pub use probes::{Gap, Probe, Probes};
pub use session::{Session, SessionReport};
pub use terminal::Terminal;
pub use udp::ask;
pub use wrk::{Load, LoadReport, RunningLoad};
