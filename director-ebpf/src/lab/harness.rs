//! The harness that the bench runs other programs in. A repeated BPF_PROG_TEST_RUN shows a program the frame that it rewrote
//! the time before: the harness makes the frame anew each time, of the flow whose turn it is, and tail-calls the program.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::XdpContext;
use director_ebpf::harness::Setup;

/// The program under test.
#[map]
static PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// What to make.
#[map]
static SETUP: Array<Setup> = Array::with_max_entries(1, 0);
/// Runs so far.
#[map]
static RUNS: Array<u32> = Array::with_max_entries(1, 0);

/// A frame of IPv4.
#[xdp(frags)]
pub fn harness_v4(ctx: XdpContext) -> u32 {
    run::<64>(&ctx, |place, setup, i| {
        let (from, to, ports) = ends(setup, i);
        // SAFETY: 64 bytes of the frame and more of the template, as `run` promises.
        unsafe {
            // Each field by itself, as programs will read it: reading one that was written in two pieces takes longer.
            copy::<u64>(place, setup, 14);
            copy::<u32>(place, setup, 22);
            put(place, 26, from);
            put(place, 30, to);
            put(place, 34, ports);
            copy::<u32>(place, setup, 38);
            copy::<u32>(place, setup, 42);
            copy::<u32>(place, setup, 46);
            copy::<u32>(place, setup, 50);
        }
    })
}

/// A frame of IPv6.
#[xdp(frags)]
pub fn harness_v6(ctx: XdpContext) -> u32 {
    run::<80>(&ctx, |place, setup, i| {
        let (from, to, ports) = ends(setup, i);
        // SAFETY: 80 bytes of the frame and more of the template, as `run` promises.
        unsafe {
            copy::<u64>(place, setup, 14);
            copy::<u32>(place, setup, 22);
            copy::<u32>(place, setup, 26);
            copy::<u32>(place, setup, 30);
            put(place, 34, from);
            copy::<u32>(place, setup, 38);
            copy::<u32>(place, setup, 42);
            copy::<u32>(place, setup, 46);
            put(place, 50, to);
            put(place, 54, ports);
            copy::<u32>(place, setup, 58);
            copy::<u32>(place, setup, 62);
            copy::<u32>(place, setup, 66);
            copy::<u32>(place, setup, 70);
        }
    })
}

/// Makes the next frame, and leaves for the program under test. `make` gets `BYTES` bytes to write.
#[inline(always)]
fn run<const BYTES: usize>(ctx: &XdpContext, make: impl FnOnce(*mut u8, &Setup, u32)) -> u32 {
    let (Some(setup), Some(runs)) = (SETUP.get(0), RUNS.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // Read once: of an address read again the verifier knows nothing.
    let place = ctx.data() as *mut u8;
    if place as usize + BYTES > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: a map value; the bench runs on one CPU.
    let i = unsafe { *runs };
    // SAFETY: as above.
    unsafe { *runs = i.wrapping_add(1) };
    // SAFETY: the first bytes of the frame and of the template.
    unsafe {
        copy::<u64>(place, setup, 0);
        copy::<u32>(place, setup, 8);
        copy::<u16>(place, setup, 12);
    }
    make(place, setup, i);
    // SAFETY: nothing here has to be dropped.
    unsafe { PROGRAM.tail_call(ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// The last words of source and destination, and the ports, as they stand in the frame.
#[inline(always)]
fn ends(setup: &Setup, i: u32) -> (u32, u32, u32) {
    let ends = setup.ends(i);
    let (client, service, port) = (ends.client.to_be(), ends.service.to_be(), u32::from(ends.port.to_be()));
    if setup.reply == 0 {
        (client, service, port | setup.port_be << 16)
    } else {
        (service, client, setup.port_be | port << 16)
    }
}

/// # Safety
/// `at` and what follows it lie inside the frame and the template.
#[inline(always)]
unsafe fn copy<T: Copy>(place: *mut u8, setup: &Setup, at: usize) {
    // SAFETY: by this function's contract. Unaligned, as everywhere in a frame: see `director_ebpf::packet`.
    unsafe { place.add(at).cast::<T>().write(setup.frame.as_ptr().add(at).cast::<T>().read()) };
}

/// # Safety
/// As [`copy`].
#[inline(always)]
unsafe fn put(place: *mut u8, at: usize, word: u32) {
    // SAFETY: as above.
    unsafe { place.add(at).cast::<u32>().write(word) };
}
