//! When probes are due. Pure.
