//! What is measured, as Prometheus reads it. Pure.

use prometheus::{IntGaugeVec, Opts, Registry, TextEncoder};

use crate::api::types::Status;

/// The metrics of a status, in the text format 0.0.4.
pub fn text(status: &Status) -> String {
    let registry = Registry::new();
    let build = IntGaugeVec::new(
        Opts::new("director_build_info", "Always 1; the version is its label."),
        &["version"],
    );
    let Ok(build) = build else { return String::new() };
    build.with_label_values(&[&status.version]).set(1);
    let _ = registry.register(Box::new(build));
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default()
}
