//! Attaching to interfaces, natively where the driver can, else in generic mode. Links are pinned; a successor replaces the
//! program behind a link atomically, so that no packet passes without one.

use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};
use director_ebpf::abi::maps;
use serde::{Deserialize, Serialize};

use super::Dataplane;
use super::error::Error;
use super::faults::WRITE;
use super::layouts;
use super::object::{self, Own};

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, before the kernel makes anything of the frame.
    Native,
    /// In the network stack: correct, but slower.
    Generic,
}

impl Mode {
    pub(super) const ALL: [Mode; 2] = [Mode::Native, Mode::Generic];

    fn name(self) -> &'static str {
        match self {
            Mode::Native => "native",
            Mode::Generic => "generic",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An interface the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Where the program runs.
    pub mode: Mode,
    /// Whether a running program was replaced, without a gap.
    pub replaced: bool,
    /// The program's id: another one after each load.
    #[serde(default)]
    pub program: u32,
    /// Its tag, as bpftool writes it: the same for the same instructions.
    #[serde(default)]
    pub tag: String,
}

/// What keeps an attachment alive in this process.
pub(super) struct Attached {
    pub(super) attachment: Attachment,
    mac: [u8; 6],
    /// The instance; dropping it does no harm, the link holds the program.
    ebpf: Ebpf,
    link: PinnedLink,
}

impl Attached {
    /// The same, with its pin back where someone took it away: without, the program would end with this process.
    fn pinned_at(self, path: &Path) -> Result<Attached, Error> {
        if path.exists() {
            return Ok(self);
        }
        tracing::warn!(path = %path.display(), "the link's pin is gone; pinning it again");
        let link = FdLink::from(self.link).pin(path).map_err(|error| Error::Load(error.to_string()))?;
        Ok(Attached { link, ..self })
    }
}

impl Dataplane {
    /// Attaches to an interface, or replaces the program that is attached there.
    ///
    /// # Errors
    /// No such interface; another program is attached; the driver and the generic mode both refuse.
    pub fn attach(&mut self, interface: &str) -> Result<Attachment, Error> {
        let own = own(interface)?;
        object::restore_pins(&self.keeper, &self.pins)?;
        let same =
            |attached: &Attached| attached.attachment.ifindex == own.ifindex && attached.mac == own.mac;
        let (mut ebpf, before) = match self.attached.remove(interface).filter(same) {
            Some(attached) => {
                let path = pin(&self.pins, interface, attached.attachment.mode);
                let attached = attached.pinned_at(&path)?;
                (attached.ebpf, Some(attached.attachment))
            }
            None => (object::load(&self.pins, &self.shared, Some(own))?, None),
        };
        let program = object::program(&mut ebpf, "director")?;
        let info = program.info()?;
        let attachment = |mode, replaced| Attachment {
            interface: interface.into(),
            ifindex: own.ifindex,
            mode,
            replaced,
            program: info.id(),
            tag: format!("{:016x}", info.tag()),
        };
        // Before the program is there: what comes in elsewhere may have to leave here.
        let known = self.devices.insert(own.ifindex, own.ifindex, None, 0);
        self.errors.note(maps::DEVICES, WRITE, known)?;
        // Where its own program is there already, the kernel just says whether the link still holds: someone may have cut it.
        let (link, attachment) = match replace(program, &self.pins, interface)? {
            Some((link, mode)) => (link, before.unwrap_or_else(|| attachment(mode, true))),
            None => {
                let (link, mode) = attach_new(program, &self.pins, interface, own.ifindex)?;
                (link, attachment(mode, false))
            }
        };
        let attached = Attached { attachment: attachment.clone(), mac: own.mac, ebpf, link };
        self.attached.insert(interface.into(), attached);
        Ok(attachment)
    }

    /// Detaches from an interface.
    ///
    /// # Errors
    /// Its pin cannot be removed.
    pub fn detach_interface(&mut self, interface: &str) -> Result<(), Error> {
        self.attached.remove(interface);
        for mode in Mode::ALL {
            remove_pin(&pin(&self.pins, interface, mode))?;
        }
        Ok(())
    }

    /// Where the program is attached.
    pub fn attachments(&self) -> Vec<Attachment> {
        self.attached.values().map(|attached| attached.attachment.clone()).collect()
    }

    /// Interfaces that a predecessor left attached.
    pub fn pinned_interfaces(&self) -> Vec<String> {
        pinned_interfaces(&self.pins)
    }

    /// Whether a director with another layout of maps left its program attached. [`Dataplane::attach`] replaces it.
    pub fn succeeds_another_layout(&self) -> bool {
        layouts::is_attached(&self.pins)
    }

    /// Removes what directors with other layouts of maps left, and says where that was. Interfaces that this one has not attached to
    /// lose their program.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove_other_layouts(&mut self) -> Result<Vec<PathBuf>, Error> {
        layouts::remove(&self.pins)
    }

    /// Takes the whole data plane down: every link, every map, every flow, of this layout and of all others.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn detach_all(pins: &Path) -> Result<(), Error> {
        let versioned = object::versioned(pins);
        layouts::remove(&versioned)?;
        match std::fs::remove_dir_all(&versioned) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::File(versioned, error)),
            _ => {
                // Others may keep their own things here; then the directory stays.
                let _ = std::fs::remove_dir(pins);
                Ok(())
            }
        }
    }
}

/// Where an interface's link is pinned. A bpf file system has no names with a dot, which VLAN interfaces have.
pub(super) fn pin(pins: &Path, interface: &str, mode: Mode) -> PathBuf {
    let interface = interface.replace('%', "%25").replace('.', "%2e");
    pins.join(format!("link-{interface}-{}", mode.name()))
}

/// The interfaces of the links that are pinned there.
pub(super) fn pinned_interfaces(pins: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(pins) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut interfaces: Vec<String> = names.filter_map(|name| pinned_interface(&name)).collect();
    interfaces.sort();
    interfaces.dedup();
    interfaces
}

/// The interface of a link's pin.
fn pinned_interface(name: &str) -> Option<String> {
    let interface = name.strip_prefix("link-")?.rsplit_once('-')?.0;
    Some(interface.replace("%2e", ".").replace("%25", "%"))
}

fn remove_pin(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::File(path.into(), error)),
        _ => Ok(()),
    }
}

/// Puts the program behind the link that a predecessor pinned, of whatever layout, if there is one and its interface still exists.
fn replace(program: &mut Xdp, pins: &Path, interface: &str) -> Result<Option<(PinnedLink, Mode)>, Error> {
    let directories = std::iter::once(pins.to_owned()).chain(layouts::others(pins));
    for (directory, mode) in directories.flat_map(|directory| Mode::ALL.map(|mode| (directory.clone(), mode)))
    {
        let path = pin(&directory, interface, mode);
        let Ok(pinned) = PinnedLink::from_pin(&path) else { continue };
        let link: FdLink = pinned.into();
        let link = XdpLink::try_from(link).map_err(|error| Error::Load(error.to_string()))?;
        match program.attach_to_link(link) {
            Ok(id) => {
                drop(program.take_link(id)?);
                let found = path;
                let path = pin(pins, interface, mode);
                if found != path {
                    std::fs::rename(&found, &path).map_err(|error| Error::File(found, error))?;
                    tracing::info!(
                        interface,
                        "replaced the program of another layout; its flows are forgotten"
                    );
                }
                let pinned = PinnedLink::from_pin(&path).map_err(|error| Error::Load(error.to_string()))?;
                return Ok(Some((pinned, mode)));
            }
            // The interface went away and came back as another one, or someone detached the link: it is dead (net/core/dev.c,
            // bpf_xdp_link_update).
            Err(ProgramError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOLINK) =>
            {
                remove_pin(&path)?;
                tracing::warn!(interface, "the pinned link holds no interface any more; attaching anew");
            }
            // The old program goes on.
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn attach_new(
    program: &mut Xdp,
    pins: &Path,
    interface: &str,
    ifindex: u32,
) -> Result<(PinnedLink, Mode), Error> {
    let mut refusals = Vec::new();
    for (mode, xdp_mode) in [(Mode::Native, XdpMode::Driver), (Mode::Generic, XdpMode::Skb)] {
        let id = match program.attach_to_if_index(ifindex, xdp_mode) {
            Ok(id) => id,
            Err(error) => {
                refusals.push((mode, error));
                continue;
            }
        };
        for (_, error) in &refusals {
            tracing::warn!(
                interface,
                error = error_text(error),
                "no native XDP here; attached in generic mode"
            );
        }
        let link: FdLink = program.take_link(id)?.try_into().map_err(|_| Error::Attach {
            interface: interface.into(),
            why: "this kernel has no XDP links, so nothing could be pinned".into(),
            help: "\n  help: kernel 5.9 or newer is needed",
        })?;
        let path = pin(pins, interface, mode);
        let pinned = link.pin(&path).map_err(|error| Error::Load(error.to_string()))?;
        return Ok((pinned, mode));
    }
    let busy = refusals.iter().any(|(_, error)| error_text(error).contains("os error 16"));
    let why: Vec<String> =
        refusals.iter().map(|(mode, error)| format!("{mode}: {}", error_text(error))).collect();
    Err(Error::Attach {
        interface: interface.into(),
        why: why.join("; "),
        help: if busy {
            "\n  help: another XDP program is attached; `bpftool net` names it. If it is a director's with other pins, \
             `director stop --detach --pins PATH` removes it"
        } else {
            ""
        },
    })
}

fn error_text(error: &ProgramError) -> String {
    match error {
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        other => other.to_string(),
    }
}

/// The interface's own facts, asked of the kernel of the network namespace we are in.
fn own(interface: &str) -> Result<Own, Error> {
    let found = pnet::datalink::interfaces().into_iter().find(|found| found.name == interface);
    let Some(found) = found else { return Err(Error::NoInterface(interface.into())) };
    let mac = found.mac.map_or([0; 6], |mac| mac.octets());
    Ok(Own { mac, ifindex: found.index })
}
