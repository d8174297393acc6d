//! What can go wrong with the data plane, and what to do about it.

use std::path::PathBuf;

/// An error of the data plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pins' directory is not in a bpf file system.
    #[error(
        "{0} is not in a bpf file system, and none could be mounted at /sys/fs/bpf: {1}\n  help: run \
         `mount -t bpf bpf /sys/fs/bpf` as root"
    )]
    NoBpfFs(PathBuf, std::io::Error),
    /// The kernel says no.
    #[error("{0}: permission denied\n  help: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Denied(&'static str),
    /// A pinned map has another layout than this program's.
    #[error(
        "the pinned map {path} does not fit this program ({what})\n  help: `director stop --detach` removes \
         the old data plane (traffic stops until the next start)"
    )]
    Layout {
        /// Its pin.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The program or a map could not be loaded.
    #[error("the BPF program cannot be loaded: {0}\n  help: kernel 5.18 or newer with BTF is needed")]
    Load(String),
    /// There is no such interface.
    #[error(
        "there is no interface {0}\n  help: `ip link` lists them; the configuration's `interfaces` names ours"
    )]
    NoInterface(String),
    /// The program could not be attached.
    #[error("cannot attach to {interface}: {why}{help}")]
    Attach {
        /// The interface.
        interface: String,
        /// What the kernel said, natively and in generic mode.
        why: String,
        /// What to do about it.
        help: &'static str,
    },
    /// The VIPs' guard cannot be what is asked for.
    #[error("the VIPs of the pair cannot be guarded: {0}")]
    Guard(String),
    /// A map operation failed.
    #[error("a map operation failed: {0}")]
    Map(#[from] aya::maps::MapError),
    /// An operation on the map of devices failed.
    #[error("an operation on the map of devices failed: {0}")]
    Device(#[from] aya::maps::xdp::XdpMapError),
    /// A program operation failed.
    #[error("a program operation failed: {0}")]
    Program(#[from] aya::programs::ProgramError),
    /// The kernel does not say which programs TCX holds.
    #[error("the kernel does not say which programs an interface has: {0}")]
    Tcx(std::io::Error),
    /// A file operation failed.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
}
