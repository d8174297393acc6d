//! The program's object: its maps made or found, its constants filled in.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapError};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use director_ebpf::abi::{self, ABI_VERSION, Meta, Reason, maps};
use director_ebpf::hash::KEY_WORDS;

use super::clock::{self, Tick};
use super::error::Error;
use super::mapped::{Element, Mapped};
use crate::model::Limits;

/// The BPF program, as built with this binary.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/director-xdp"));
/// Programs for tests and the bench. Nothing of the director's own refers to them.
pub static LAB_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/director-lab"));

/// The magic number of a bpf file system (linux/magic.h).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// What all instances of the program have in common.
pub struct Shared {
    /// The maps' own record of how they were made.
    pub meta: Meta,
    /// Its tick.
    pub tick: Tick,
    /// The maps' sizes.
    pub limits: Limits,
}

/// [`Meta`] as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct MetaPod(Meta);
// SAFETY: integers without padding (asserted in the ABI), any bits are a value.
unsafe impl aya::Pod for MetaPod {}

/// What an instance for one interface has of its own.
#[derive(Clone, Copy)]
pub struct Own {
    /// The interface's MAC.
    pub mac: [u8; 6],
    /// Its index.
    pub ifindex: u32,
}

/// Mounts the bpf file system that pins shall lie in, if nobody did.
pub fn ensure_mounted(pins: &Path) -> Result<(), Error> {
    let standard = Path::new("/sys/fs/bpf");
    if pins.starts_with(standard) && !is_bpf_fs(standard) {
        mount_bpf_fs(standard).map_err(|error| Error::NoBpfFs(pins.into(), error))?;
    }
    Ok(())
}

/// The directory for this layout's pins, made if missing; the bpf file system is mounted if nobody did.
pub fn directory(pins: &Path) -> Result<PathBuf, Error> {
    ensure_mounted(pins)?;
    let versioned = versioned(pins);
    std::fs::create_dir_all(&versioned).map_err(|error| Error::File(versioned.clone(), error))?;
    if !is_bpf_fs(&versioned) {
        let why = std::io::Error::other("it is elsewhere");
        return Err(Error::NoBpfFs(pins.into(), why));
    }
    Ok(versioned)
}

/// Where this layout's pins lie.
pub fn versioned(pins: &Path) -> PathBuf {
    pins.join(format!("v{ABI_VERSION}"))
}

/// Whether a bpf file system is mounted there.
pub(super) fn is_bpf_fs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u64 == BPF_FS_MAGIC)
}

fn mount_bpf_fs(at: &Path) -> std::io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    Ok(mount("bpf", at, "bpf", MountFlags::empty(), None)?)
}

/// Finds the pinned maps' common facts, or makes them up for maps that are about to be created.
pub fn shared(pins: &Path, limits: &Limits) -> Result<Shared, Error> {
    let path = pins.join(maps::META);
    if path.exists() && (has_links(pins)? || meta(&path)?.abi_version != 0) {
        return take_over(pins, &path);
    }
    // A predecessor that died before it had made all maps leaves some of them, of whatever size.
    for name in maps::ALL {
        let _ = std::fs::remove_file(pins.join(name));
    }
    let hz = measure_hz()?;
    let tick = Tick::of(hz);
    let mut hash_key = [0u64; KEY_WORDS];
    for word in &mut hash_key {
        let mut bytes = [0u8; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Error::Load(format!("no random numbers: {error}")))?;
        *word = u64::from_ne_bytes(bytes);
    }
    let meta = Meta {
        hash_key,
        abi_version: ABI_VERSION,
        tick_shift: tick.shift,
        hz,
        set_mask: sets_for(limits.flows) - 1,
    };
    Ok(Shared { meta, tick, limits: *limits })
}

/// Sets for a number of flows: twice as many places, since a half-full table turns almost none away.
pub fn sets_for(flows: u32) -> u32 {
    (flows.next_power_of_two() / abi::WAYS * 2).max(1)
}

fn meta(path: &Path) -> Result<Meta, Error> {
    let map: Array<MapData, MetaPod> = Array::try_from(Map::Array(MapData::from_pin(path)?))?;
    Ok(map.get(&0, 0)?.0)
}

/// Whether the program is attached somewhere by these pins.
fn has_links(pins: &Path) -> Result<bool, Error> {
    let entries = std::fs::read_dir(pins).map_err(|error| Error::File(pins.into(), error))?;
    Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("link-")))
}

/// Pins maps again whose pins somebody removed: without them, a successor would begin with empty tables.
pub fn restore_pins(keeper: &Ebpf, pins: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(pins).map_err(|error| Error::File(pins.into(), error))?;
    for (name, map) in keeper.maps().filter(|(name, _)| maps::ALL.contains(name)) {
        let path = pins.join(name);
        if !path.exists() {
            tracing::warn!(path = %path.display(), "the map's pin is gone; pinning it again");
            map.pin(&path).map_err(|error| Error::Load(error.to_string()))?;
        }
    }
    Ok(())
}

/// Entries of a map for ids from 1 to `limit`: id 0 stands for none.
pub fn entries(limit: u32) -> u32 {
    limit + 1
}

fn take_over(pins: &Path, path: &Path) -> Result<Shared, Error> {
    let meta = meta(path)?;
    let layout = |what: String| Error::Layout { path: path.into(), what };
    if meta.abi_version != ABI_VERSION {
        return Err(layout(format!("version {} instead of {ABI_VERSION}", meta.abi_version)));
    }
    let size = |name: &str| -> Result<u32, Error> {
        let path = pins.join(name);
        Ok(MapData::from_pin(&path)?.info()?.max_entries())
    };
    for (name, key, value) in sizes() {
        let path = pins.join(name);
        let info = MapData::from_pin(&path)?.info()?;
        if (info.key_size(), info.value_size()) != (key, value) {
            let what = format!("key {} and value {} bytes", info.key_size(), info.value_size());
            return Err(Error::Layout { path, what: format!("{what} instead of {key} and {value}") });
        }
    }
    let limits = Limits {
        flows: (meta.set_mask + 1) * abi::WAYS / 2,
        services: size(maps::SERVICES)?.saturating_sub(1),
        reals: size(maps::BACKENDS)?.saturating_sub(1),
        keys: size(maps::SERVICE_KEYS)?,
        slots: size(maps::SLOTS)? * abi::SLOTS_PER_LINE,
    };
    Ok(Shared { meta, tick: Tick { hz: meta.hz, shift: meta.tick_shift }, limits })
}

/// Key and value sizes of every map.
fn sizes() -> [(&'static str, u32, u32); 15] {
    let of = |name, value: usize| (name, 4, value as u32);
    [
        of(maps::META, size_of::<Meta>()),
        (maps::SERVICE_KEYS, size_of::<abi::ServiceKey>() as u32, 4),
        of(maps::SERVICES, size_of::<abi::Service>()),
        of(maps::BACKENDS, size_of::<abi::Backend>()),
        of(maps::SLOTS, size_of::<abi::SlotLine>()),
        of(maps::FLOWS, size_of::<abi::FlowSet>()),
        of(maps::FLOWS_COLD, size_of::<abi::FlowCold>()),
        of(maps::ADDR_FILTER, size_of::<abi::AddrFilter>()),
        of(maps::BACKEND_STATS, size_of::<abi::BackendStats>()),
        of(maps::SERVICE_STATS, size_of::<abi::ServiceStats>()),
        of(maps::REASONS, 8),
        of(maps::DEVICES, 8),
        (maps::GUARD, size_of::<abi::Addr>() as u32, 4),
        of(maps::LEASES, 8),
        (maps::VMACS, 8, 4),
    ]
}

/// Loads an instance of the object: maps are opened by their pins, or created and pinned.
pub fn load(pins: &Path, shared: &Shared, own: Option<Own>) -> Result<Ebpf, Error> {
    let Shared { meta, limits, .. } = shared;
    let sets = meta.set_mask + 1;
    let mac = abi::mac_word(own.map_or([0; 6], |own| own.mac));
    let ifindex = own.map_or(0, |own| own.ifindex);
    let mut loader = EbpfLoader::new();
    for name in maps::ALL {
        loader.map_pin_path(name, pins.join(name));
    }
    loader
        .map_max_entries(maps::SERVICE_KEYS, limits.keys)
        .map_max_entries(maps::SERVICES, entries(limits.services))
        .map_max_entries(maps::SERVICE_STATS, entries(limits.services))
        .map_max_entries(maps::BACKENDS, entries(limits.reals))
        .map_max_entries(maps::BACKEND_STATS, entries(limits.reals))
        .map_max_entries(maps::SLOTS, limits.slots.div_ceil(abi::SLOTS_PER_LINE))
        .map_max_entries(maps::FLOWS, sets)
        .map_max_entries(maps::FLOWS_COLD, sets * abi::WAYS)
        .map_max_entries(maps::REASONS, Reason::COUNT as u32)
        .override_global("HASH_KEY", &meta.hash_key[..], true)
        .override_global("SET_MASK", &meta.set_mask, true)
        .override_global("TICK_SHIFT", &meta.tick_shift, true)
        .override_global("OWN_MAC", &mac, true)
        .override_global("IFINDEX", &ifindex, true);
    let mut ebpf = loader.load(OBJECT).map_err(load_error)?;
    if own.is_none() {
        let mut map: Array<&mut MapData, MetaPod> =
            Array::try_from(ebpf.map_mut(maps::META).ok_or_else(|| missing(maps::META))?)?;
        map.set(0, MetaPod(*meta), 0)?;
    }
    Ok(ebpf)
}

/// Loads one program of the object into the kernel.
pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, Error> {
    let program: &mut Xdp = ebpf.program_mut(name).ok_or_else(|| missing(name))?.try_into()?;
    match undisturbed(|| program.load()) {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
        Err(error) => Err(Error::Load(chain(&error))),
    }
}

/// Does something while no signal reaches this thread. The kernel gives up checking a program when one arrives (EAGAIN;
/// kernel/bpf/verifier.c, `do_check`), and health checks that are commands end with SIGCHLD all the time.
pub fn undisturbed<T>(job: impl FnOnce() -> T) -> T {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: `sigfillset` fills the set that is then read; `before` is only written here.
    let blocked = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr()) == 0
    };
    let done = job();
    if blocked {
        // SAFETY: the call above succeeded, and filled `before`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    }
    done
}

/// Reads the clock.
pub fn clock(ebpf: &Ebpf) -> Result<u32, Error> {
    let program: &Xdp = ebpf.program("clock").ok_or_else(|| missing("clock"))?.try_into()?;
    Ok(clock::read(program)?)
}

fn measure_hz() -> Result<u32, Error> {
    let mut ebpf =
        EbpfLoader::new().override_global("TICK_SHIFT", &0u32, true).load(OBJECT).map_err(load_error)?;
    let hz = clock::measure_hz(program(&mut ebpf, "clock")?)?;
    tracing::debug!(hz, tick = ?Tick::of(hz).length(), "the kernel's clock");
    Ok(hz)
}

/// Maps an array of the object into memory.
pub fn mapped<T: Element>(ebpf: &Ebpf, name: &'static str, len: usize) -> Result<Mapped<T>, Error> {
    let Some(Map::Array(data)) = ebpf.map(name) else { return Err(missing(name)) };
    Mapped::new(data.fd(), len).map_err(|error| Error::File(name.into(), error))
}

/// Takes a map out of the object.
pub fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<T, Error> {
    Ok(T::try_from(ebpf.take_map(name).ok_or_else(|| missing(name))?)?)
}

/// What is said where the object lacks a part.
pub(super) fn missing(name: &str) -> Error {
    Error::Load(format!("the object has no {name}"))
}

/// Why an object could not be loaded.
pub(super) fn load_error(error: EbpfError) -> Error {
    let text = chain(&error);
    if text.contains("(os error 1)") { Error::Denied("loading the BPF program") } else { Error::Load(text) }
}

/// An error with all its causes, in one line each.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
