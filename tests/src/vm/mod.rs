//! Other kernels: Debian's, booted under QEMU in software emulation, with the lab inside.
//!
//! The [`kernel`] comes out of Debian's package, unpacked and not installed; the [`initramfs`] holds the director, what
//! the lab runs, and `vm-guest` as its first process. The [`guest`] builds the lab, lets real packets through the
//! director and says on the serial console what held; [`machine`] boots it and reads that.

pub mod guest;
pub mod initramfs;
pub mod kernel;
pub mod machine;

/// What begins each of the guest's lines that are for the host; anyone may write on a console.
const MARK: &str = "director-vm: ";

/// The host's word for the kernel that runs, for a check that held, one that did not, and for the end.
const KERNEL: &str = "kernel";
const HELD: &str = "ok";
const FAILED: &str = "FAIL";
const END: &str = "end";
