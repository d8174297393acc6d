//! Signed messages over TCP, and their answers (RFC 8945, RFC 7766).

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::tsig::{TSIG, TsigError};
use hickory_proto::rr::{Name, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::message::words;

/// A connection to a server. A message is not sent twice on its own: an update that was lost may have been made.
pub(super) struct Server<'a> {
    address: SocketAddr,
    stream: TcpStream,
    signer: &'a TSigner,
    patience: Duration,
}

impl<'a> Server<'a> {
    /// Connects. Connecting and each exchange may take as long as `patience`.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(super) async fn connect(
        address: SocketAddr,
        signer: &'a TSigner,
        patience: Duration,
    ) -> Result<Server<'a>> {
        let cannot = || format!("cannot reach the name server {address}");
        let connecting = timeout(patience, TcpStream::connect(address)).await;
        let stream = connecting.with_context(cannot)?.with_context(cannot)?;
        Ok(Server { address, stream, signer, patience })
    }

    /// Sends a message, signed, and takes the answer, whose signature is right.
    ///
    /// # Errors
    /// There is none in time, it is none to this message, or it is not signed with the key. What it says is not looked at, beyond
    /// what it says of the signature.
    pub(super) async fn ask(&mut self, mut message: Message) -> Result<Message> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("this machine's clock is before 1970")?
            .as_secs();
        let verifier = message.finalize(self.signer, now).context("cannot sign")?;
        let mut verifier = verifier.context("cannot sign")?;
        let exchange = timeout(self.patience, self.exchange(&message.to_vec()?)).await;
        let address = self.address;
        let answer = exchange.map_err(|_| {
            anyhow::anyhow!("the name server {address} did not answer in {:?}", self.patience)
        })?;
        let answer = answer.with_context(|| format!("the name server {address} did not answer"))?;
        let read = Message::from_vec(&answer).context("the answer is no DNS message")?;
        ensure!(read.metadata.message_type == MessageType::Response, "the answer is a question");
        ensure!(read.metadata.id == message.metadata.id, "the answer is to another message");
        check_signature(&read, self.signer.signer_name(), now)?;
        verifier.verify(&answer).context("the answer's signature is wrong; is this the server's key?")?;
        Ok(read)
    }

    async fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        // The length comes first (RFC 1035, 4.2.2).
        let length = u16::try_from(message.len()).context("the message is too long")?;
        self.stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
        let mut answer = vec![0; usize::from(self.stream.read_u16().await?)];
        self.stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

/// What an answer says of the signature. A server that does not know the key or finds the signature wrong cannot sign this itself
/// (RFC 8945, 5.2): it is no more than a hint, but it is an error either way.
fn check_signature(answer: &Message, key: &Name, now: u64) -> Result<()> {
    let Some(record) = answer.signature() else {
        bail!("{} (the answer is not signed)", words(answer.metadata.response_code));
    };
    match record.data.error {
        None => Ok(()),
        Some(TsigError::BadKey) => {
            bail!("BADKEY: the server does not know the key {key}, or not with this algorithm")
        }
        Some(TsigError::BadSig) => bail!("BADSIG: the server has another secret for the key {key}"),
        Some(TsigError::BadTime) => bail!("BADTIME: {}", clocks(&record.data, now)),
        Some(TsigError::BadTrunc) => bail!("BADTRUNC: the server wants a longer signature of the key {key}"),
        Some(TsigError::Unknown(code)) => bail!("the server finds the signature wrong, TSIG error {code}"),
    }
}

/// The server's time is in the other data (RFC 8945, 5.2.3).
fn clocks(tsig: &TSIG, now: u64) -> String {
    let theirs = tsig.other.iter().fold(0u64, |time, byte| time << 8 | u64::from(*byte));
    if tsig.other.len() != 6 {
        return "the server's clock and ours differ by too much".into();
    }
    let (behind, by) =
        if theirs > now { ("ours is behind", theirs - now) } else { ("ours is ahead", now - theirs) };
    format!("the server's clock and ours differ: {behind} by {by} s; set them by NTP")
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::tsig::TsigAlgorithm;

    use super::*;

    #[test]
    fn clocks_are_compared() {
        let with = |other: &[u8]| {
            TSIG::new(
                TsigAlgorithm::HmacSha256,
                1000,
                300,
                Vec::new(),
                1,
                Some(TsigError::BadTime),
                other.into(),
            )
        };
        assert!(clocks(&with(&[0, 0, 0, 0, 4, 0]), 1000).contains("ours is behind by 24 s"));
        assert!(clocks(&with(&[0, 0, 0, 0, 1, 0]), 1000).contains("ours is ahead by 744 s"));
        assert!(clocks(&with(&[]), 1000).ends_with("by too much"));
    }
}
