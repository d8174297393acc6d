//! Messages on a line of bytes: SLIP (RFC 1055), with an END before and after each message, so that noise before a message
//! does not spoil it. There is no checksum: messages are authenticated. Pure.

#[cfg(test)]
mod tests;

const END: u8 = 0xc0;
const ESC: u8 = 0xdb;
/// After ESC: a byte that is END.
const ESC_END: u8 = 0xdc;
/// After ESC: a byte that is ESC.
const ESC_ESC: u8 = 0xdd;

/// The most bytes that a message of so many becomes.
pub const fn longest(message: usize) -> usize {
    2 * message + 2
}

/// Writes a message as a frame; `frame` has nothing else afterwards.
pub fn encode(message: &[u8], frame: &mut Vec<u8>) {
    frame.clear();
    frame.push(END);
    for byte in message {
        match *byte {
            END => frame.extend([ESC, ESC_END]),
            ESC => frame.extend([ESC, ESC_ESC]),
            byte => frame.push(byte),
        }
    }
    frame.push(END);
}

/// Finds messages in what comes by a line, however it is cut into pieces.
#[derive(Debug)]
pub struct Decoder {
    /// What has come of a message.
    message: Vec<u8>,
    /// The longest message, in bytes.
    most: usize,
    /// The last byte was ESC.
    escaped: bool,
    /// What comes until the next END belongs to no message.
    lost: bool,
}

impl Decoder {
    /// For messages of at most `most` bytes. Begins in the midst of anything: the first END starts a message.
    pub fn new(most: usize) -> Self {
        Self { message: Vec::with_capacity(most), most, escaped: false, lost: true }
    }

    /// Takes what came, and hands over each message that this completes. Returns how many frames were dropped because
    /// they were too long or had a wrong escape.
    pub fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8])) -> u64 {
        let mut dropped = 0;
        for byte in bytes {
            match *byte {
                END => dropped += u64::from(self.end(each)),
                _ if self.lost => {}
                ESC if !self.escaped => self.escaped = true,
                byte => {
                    let plain = match (self.escaped, byte) {
                        (false, byte) => Some(byte),
                        (true, ESC_END) => Some(END),
                        (true, ESC_ESC) => Some(ESC),
                        (true, _) => None,
                    };
                    self.escaped = false;
                    match plain {
                        Some(plain) if self.message.len() < self.most => self.message.push(plain),
                        _ => {
                            self.lost = true;
                            dropped += 1;
                        }
                    }
                }
            }
        }
        dropped
    }

    /// An END came. Says whether it broke a frame off.
    fn end(&mut self, each: &mut dyn FnMut(&[u8])) -> bool {
        let broken = self.escaped;
        if !broken && !self.lost && !self.message.is_empty() {
            each(&self.message);
        }
        self.message.clear();
        self.escaped = false;
        self.lost = false;
        broken
    }
}
