//! Clients that load a service and say what they saw.

mod curl;
mod http;
mod marked;
mod session;
mod udp;
mod wrk;

pub use curl::{Answers, Curl, Download, Upload, download, upload};
pub use http::fetch_from_port;
pub use marked::Marked;
pub use session::{Session, SessionReport};
pub use udp::ask;
pub use wrk::{Load, LoadReport, RunningLoad};
