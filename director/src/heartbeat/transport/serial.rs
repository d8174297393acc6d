//! A serial line to the one other director.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, QueueSelector, SpecialCodeIndex, ioctl_tiocexcl, tcflush,
    tcgetattr, tcsetattr,
};

use super::{Counts, MAX_MESSAGE, Medium, slip};

/// How many bytes are read at once.
const READ: usize = 512;

/// A line, with the messages that go out by it.
///
/// If it is slower than the heartbeats, they must not pile up: they would come late, and what is late is worth nothing. So
/// at most one message waits, and a newer one replaces it. One that is half written is finished first, though.
#[derive(Debug)]
pub struct Serial {
    device: PathBuf,
    baud: u32,
    port: Option<OwnedFd>,
    decoder: slip::Decoder,
    /// The frame that is being written; empty if there is none.
    writing: Vec<u8>,
    /// How much of it was written.
    written: usize,
    /// The message that waits; empty if there is none.
    waiting: Vec<u8>,
    /// Why it was closed, until someone asks.
    broke: Option<Errno>,
}

impl Serial {
    pub fn new(device: PathBuf, baud: u32) -> Self {
        Self {
            device,
            baud,
            port: None,
            decoder: slip::Decoder::new(MAX_MESSAGE),
            writing: Vec::with_capacity(slip::longest(MAX_MESSAGE)),
            written: 0,
            waiting: Vec::with_capacity(MAX_MESSAGE),
            broke: None,
        }
    }

    /// Writes what the line takes.
    fn advance(&mut self, counts: &mut Counts) -> Result<(), Errno> {
        let Some(port) = &self.port else { return Ok(()) };
        loop {
            if self.writing.is_empty() {
                if self.waiting.is_empty() || !is_idle(port)? {
                    return Ok(());
                }
                slip::encode(&self.waiting, &mut self.writing);
                self.waiting.clear();
                self.written = 0;
                counts.sent += 1;
            }
            match rustix::io::write(port, &self.writing[self.written..]) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(length) => self.written += length,
                Err(error) => return Err(error),
            }
            if self.written == self.writing.len() {
                self.writing.clear();
            }
        }
    }

    fn close(&mut self, error: Errno) {
        if let Some(port) = self.port.take() {
            // Otherwise, closing waits until the device has sent all, half a minute for one that does not (closing_wait).
            _ = tcflush(&port, QueueSelector::IOFlush);
        }
        self.broke = Some(error);
    }
}

/// Whether the line has little left to send. A terminal is "writable" when less than 256 bytes wait in its buffers
/// (WAKEUP_CHARS, n_tty.c), while these would take some thousand: at 9600 baud, those are seconds.
fn is_idle(port: &OwnedFd) -> Result<bool, Errno> {
    let mut wanted = [PollFd::new(port, PollFlags::OUT)];
    poll(&mut wanted, Some(&Timespec::default()))?;
    Ok(wanted[0].revents().contains(PollFlags::OUT))
}

/// Opens a line for bytes as they are, 8 bits without parity, without flow control of any kind.
fn open(device: &PathBuf, baud: u32) -> Result<OwnedFd, Errno> {
    // It would wait for a carrier if it were blocking, and become this process's terminal.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let port = rustix::fs::open(device, flags, Mode::empty())?;
    let mut settings = tcgetattr(&port)?;
    settings.make_raw();
    settings.input_modes.remove(InputModes::IXOFF | InputModes::IXANY | InputModes::INPCK);
    settings.control_modes.remove(ControlModes::CRTSCTS | ControlModes::CSTOPB);
    settings.control_modes.insert(ControlModes::CLOCAL | ControlModes::CREAD);
    // With 0, having nothing to read would look as if the line had hung up.
    settings.special_codes[SpecialCodeIndex::VMIN] = 1;
    settings.special_codes[SpecialCodeIndex::VTIME] = 0;
    settings.set_speed(baud)?;
    tcsetattr(&port, OptionalActions::Now, &settings)?;
    // Keeps others from opening it by mistake, except root's.
    ioctl_tiocexcl(&port)?;
    Ok(port)
}

impl Medium for Serial {
    fn open(&mut self) -> Result<(), String> {
        match open(&self.device, self.baud) {
            Ok(port) => {
                self.port = Some(port);
                self.decoder = slip::Decoder::new(MAX_MESSAGE);
                self.writing.clear();
                self.waiting.clear();
                Ok(())
            }
            Err(Errno::NOENT | Errno::NXIO | Errno::NODEV) => Err("there is no such device".into()),
            Err(Errno::NOTTY) => Err("this is not a serial device".into()),
            Err(Errno::INVAL) => Err(format!("the device cannot do {} bits a second", self.baud)),
            Err(Errno::BUSY) => Err("another program uses the device (fuser shows it)".into()),
            Err(error) => Err(format!("opening the device: {error}")),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        match self.broke.take() {
            None => Ok(()),
            // What the kernel says about a line that hung up: a converter that was pulled out, for example.
            Some(Errno::IO) => Err("the device went away".into()),
            Some(error) => Err(format!("the device failed: {error}")),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.port.as_ref().map(AsFd::as_fd)
    }

    fn wants_write(&self) -> bool {
        !self.writing.is_empty() || !self.waiting.is_empty()
    }

    fn send(&mut self, bytes: &[u8], counts: &mut Counts) {
        counts.replaced += u64::from(!self.waiting.is_empty());
        self.waiting.clear();
        self.waiting.extend_from_slice(bytes);
        self.flush(counts);
    }

    fn flush(&mut self, counts: &mut Counts) {
        if let Err(error) = self.advance(counts) {
            counts.failed(None, error);
            self.close(error);
        }
    }

    fn receive(&mut self, buffer: &mut [u8], each: &mut dyn FnMut(&[u8]), counts: &mut Counts) -> bool {
        let Some(port) = &self.port else { return false };
        match rustix::io::read(port, &mut buffer[..READ]) {
            // A line that hung up.
            Ok(0) => self.close(Errno::IO),
            Ok(length) => {
                counts.garbled += self.decoder.feed(&buffer[..length], each);
                return length == READ;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.close(error),
        }
        false
    }
}
