//! Runs many probes on time.
