//! Real-time manners: threads that must not be kept waiting.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};

/// The priority of the heartbeat's thread. Above everything of the director's, below the kernel's own (50).
pub const HEARTBEAT: i32 = 40;
/// The priority of the thread that takes VIPs.
pub const TAKEOVER: i32 = 30;

/// Keeps all memory of the process from being written to swap: pages stay as soon as they are used. (Not before: the data plane's
/// tables are mapped whole, and are the kernel's memory anyway.)
///
/// # Errors
/// The kernel does not permit it.
pub fn lock_memory() -> io::Result<()> {
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}

/// Has the calling thread run before all that are not real-time (SCHED_FIFO, sched(7)). What it starts does not inherit that.
///
/// # Errors
/// The kernel does not permit it.
pub fn prioritize(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: a valid parameter, for this thread.
    let result = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
