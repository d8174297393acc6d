//! A login to MySQL or MariaDB and a query. The clients there are (mysql_async, sqlx) make their connections themselves: neither
//! takes one that is there, nor lets one set the socket's mark. So the packets and the ways to log in are those of mysql_common,
//! which mysql_async is made of, and only their order is here (MySQL's client/server protocol, "Connection Phase").
//!
//! A password is sent in clear only through TLS. `caching_sha2_password` without TLS encrypts it to a key that the server names, as
//! MySQL's own clients do when they are told to: whoever can pose as the server gets to know it.

use std::io;

use bytes::BytesMut;
use mysql_common::auth::plugins::{AuthProc, ChallengeResponsePlugin, Context, Response};
use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthPlugin, AuthSwitchRequest, ErrPacket, HandshakePacket, HandshakeResponse, SslRequest,
};
use mysql_common::proto::MySerialize;
use mysql_common::proto::codec::PacketCodec;
use mysql_common::proto::codec::error::PacketCodecError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attempt::{self, Attempt, MOST, Stream};
use crate::outcome::{Failure, Success};
use crate::spec::Sql;
use crate::through::Limited;

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;
/// First bytes of packets.
const OK: u8 = 0;
const MORE: u8 = 1;
const LOCAL_FILE: u8 = 0xfb;
const EOF: u8 = 0xfe;
const ERROR: u8 = 0xff;
/// NULL, in the place of a value's length.
const NULL: u8 = 0xfb;
/// An EOF packet is shorter than this; what begins like one and is not is a row (whose first value is very long).
const EOF_SHORTER_THAN: usize = 9;
/// The most packets that a login takes; each way to log in needs fewer.
const ROUNDS: usize = 10;
/// utf8mb4_general_ci, that any server since 5.5 knows.
const COLLATION: u8 = 45;

const WANTED: CapabilityFlags = CapabilityFlags::CLIENT_PROTOCOL_41
    .union(CapabilityFlags::CLIENT_LONG_PASSWORD)
    .union(CapabilityFlags::CLIENT_SECURE_CONNECTION)
    .union(CapabilityFlags::CLIENT_TRANSACTIONS)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA);

/// Logs in, asks, and wants a row whose first column matches.
pub async fn probe(sql: &Sql, attempt: &mut Attempt) -> Result<Success, Failure> {
    let mut session = greet(sql, attempt).await?;
    attempt.step("logged in");
    let result = match &sql.query {
        None => Ok(()),
        Some(query) => {
            attempt.awaits("result");
            let result = ask(query, sql, &mut session).await;
            if result.is_ok() {
                attempt.step("the query gave a row");
            }
            result
        }
    };
    // The server counts connections that end without this, and logs them. It matters to nobody whether it succeeds.
    let _ = tokio::time::timeout(attempt.left() / 2, session.leave()).await;
    result.map(|()| Success::default())
}

/// From the server's greeting to the login.
async fn greet(sql: &Sql, attempt: &mut Attempt) -> Result<Session, Failure> {
    let mut session = Session::new(Box::new(attempt.tcp().await?));
    attempt.awaits("greeting");
    let packet = session.receive().await?;
    let greeting: HandshakePacket<'_> = ParseBuf(&packet).parse(()).map_err(not_understood)?;
    if greeting.protocol_version() != 10 {
        return Err(Failure::Protocol("the greeting is not MySQL's".into()));
    }
    attempt.step(format!("greeted by {}", greeting.server_version_str()));
    let mut capabilities = WANTED & greeting.capabilities();
    if let Some(tls) = &sql.tls {
        if !greeting.capabilities().contains(CapabilityFlags::CLIENT_SSL) {
            return Err(Failure::Tls("the server does not offer it".into()));
        }
        capabilities |= CapabilityFlags::CLIENT_SSL;
        if sql.database.is_some() {
            capabilities |= CapabilityFlags::CLIENT_CONNECT_WITH_DB;
        }
        session.send(&serialized(&SslRequest::new(capabilities, most(), COLLATION))).await?;
        // What came before TLS may be anybody's.
        if !session.received.is_empty() {
            return Err(Failure::Protocol("the server went on without TLS".into()));
        }
        let stream = attempt.secure(tls, &[], session.stream).await?;
        session.stream = Limited::new(Box::new(stream));
    }
    attempt.awaits("login");
    login(sql, &greeting, capabilities, &mut session).await?;
    Ok(session)
}

async fn login(
    sql: &Sql,
    greeting: &HandshakePacket<'_>,
    capabilities: CapabilityFlags,
    session: &mut Session,
) -> Result<(), Failure> {
    let mut nonce = greeting.nonce();
    // A way that is not known to us is not used for the first answer: the server then says which one this user needs.
    let offered = greeting.auth_plugin().filter(|plugin| is_sound(plugin, sql));
    let plugin = offered.unwrap_or(AuthPlugin::MysqlNativePassword);
    let mut procedure = plugin.init().map_err(|error| Failure::Protocol(error.to_string()))?;
    let answer = run(&mut procedure, sql, &nonce, &nonce)?;
    let response = HandshakeResponse::new(
        answer,
        greeting.server_version_parsed().unwrap_or((5, 5, 3)),
        Some(sql.login.user.as_bytes()),
        sql.database.as_deref().map(str::as_bytes),
        Some(plugin.into_owned()).filter(|_| capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH)),
        capabilities,
        None,
        most(),
    );
    session.send(&serialized(&response)).await?;
    for _ in 0..ROUNDS {
        let packet = session.receive().await?;
        let answer = match packet.first() {
            Some(&OK) => return Ok(()),
            Some(&MORE) => run(&mut procedure, sql, &nonce, &packet[1..])?,
            Some(&EOF) => {
                let switch: AuthSwitchRequest<'_> = ParseBuf(&packet).parse(()).map_err(not_understood)?;
                let plugin = switch.auth_plugin();
                if !is_sound(&plugin, sql) {
                    let name = String::from_utf8_lossy(plugin.as_bytes()).into_owned();
                    return Err(Failure::Protocol(format!("the server wants an unsupported login: {name}")));
                }
                nonce = switch.plugin_data().to_vec();
                procedure = plugin.init().map_err(|error| Failure::Protocol(error.to_string()))?;
                run(&mut procedure, sql, &nonce, &nonce)?
            }
            _ => return Err(not_understood(())),
        };
        if let Some(answer) = answer {
            session.send(&answer).await?;
        }
    }
    Err(Failure::Protocol("the login has no end".into()))
}

/// Whether a way to log in is known, and does not give the password away.
fn is_sound(plugin: &AuthPlugin<'_>, sql: &Sql) -> bool {
    match plugin {
        AuthPlugin::MysqlNativePassword | AuthPlugin::CachingSha2Password => true,
        AuthPlugin::MysqlClearPassword | AuthPlugin::Sha256Password => sql.tls.is_some(),
        _ => false,
    }
}

/// One step of a login: what is to be said to a challenge, if anything.
fn run(
    procedure: &mut AuthProc,
    sql: &Sql,
    nonce: &[u8],
    challenge: &[u8],
) -> Result<Option<Vec<u8>>, Failure> {
    match procedure.run(Known { sql, nonce }, challenge) {
        Ok(Response::Next { packet } | Response::Last { packet }) => Ok(packet),
        Err(_) => Err(not_understood(())),
    }
}

/// What a login needs to know.
struct Known<'a> {
    sql: &'a Sql,
    nonce: &'a [u8],
}

impl Context for Known<'_> {
    fn pass(&self) -> &[u8] {
        self.sql.login.password.reveal().as_bytes()
    }

    fn is_ipc_transport(&self) -> bool {
        false
    }

    fn is_tls_transport(&self) -> bool {
        self.sql.tls.is_some()
    }

    fn scramble(&self) -> &[u8] {
        self.nonce
    }

    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}

async fn ask(query: &str, sql: &Sql, session: &mut Session) -> Result<(), Failure> {
    session.codec.reset_seq_id();
    session.send(&[&[COM_QUERY], query.as_bytes()].concat()).await?;
    let no_row = || Failure::Protocol("the query gave no row".into());
    let packet = session.receive().await?;
    match packet.first() {
        Some(&OK) => return Err(no_row()),
        Some(&LOCAL_FILE) => return Err(Failure::Protocol("the query wants a file of ours".into())),
        _ => {}
    }
    // How many columns, then what they are, is of no interest: all up to the first EOF.
    while !is_eof(&session.receive().await?) {}
    let row = session.receive().await?;
    if is_eof(&row) {
        return Err(no_row());
    }
    session.rows = true;
    let first = match row.first() {
        Some(&NULL) => &[],
        _ => ParseBuf(&row).checked_eat_lenenc_str().ok_or_else(|| not_understood(()))?,
    };
    attempt::expect("first column", sql.receive.as_ref(), first)
}

fn is_eof(packet: &[u8]) -> bool {
    packet.first() == Some(&EOF) && packet.len() < EOF_SHORTER_THAN
}

fn serialized(packet: &impl MySerialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.serialize(&mut bytes);
    bytes
}

fn most() -> u32 {
    u32::try_from(MOST).unwrap_or(u32::MAX)
}

fn not_understood<E>(_: E) -> Failure {
    Failure::Protocol("the answer is not MySQL's".into())
}

/// A conversation in packets.
struct Session {
    stream: Limited<Box<dyn Stream>>,
    codec: PacketCodec,
    received: BytesMut,
    /// Rows may be on their way.
    rows: bool,
}

impl Session {
    fn new(stream: Box<dyn Stream>) -> Session {
        Session {
            stream: Limited::new(stream),
            codec: PacketCodec::default(),
            received: BytesMut::new(),
            rows: false,
        }
    }

    async fn send(&mut self, packet: &[u8]) -> Result<(), Failure> {
        let mut bytes = BytesMut::new();
        self.codec.encode(&mut &packet[..], &mut bytes).map_err(coded)?;
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The next packet. One that says an error is a failure.
    async fn receive(&mut self) -> Result<Vec<u8>, Failure> {
        let mut packet = Vec::new();
        while !self.codec.decode(&mut self.received, &mut packet).map_err(coded)? {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(Failure::Closed);
            }
        }
        if packet.first() != Some(&ERROR) {
            return Ok(packet);
        }
        // An error instead of a greeting has no SQL state with some servers (they do not know yet whether we understand it).
        let has_state = packet.get(3) == Some(&b'#');
        let capabilities = if has_state { WANTED } else { CapabilityFlags::empty() };
        match ParseBuf(&packet).parse(capabilities) {
            Ok(ErrPacket::Error(error)) => {
                let message = error.message_str().into_owned();
                // SQL's class 28: invalid authorization.
                match error.sql_state_ref() {
                    Some(state) if state.as_str().starts_with("28") => Err(Failure::Login(message)),
                    _ => Err(Failure::Protocol(message)),
                }
            }
            _ => Err(not_understood(())),
        }
    }

    /// Says good-bye, after what the server still has to say: else it would find the connection broken.
    async fn leave(&mut self) -> Result<(), Failure> {
        while self.rows {
            self.rows = !is_eof(&self.receive().await?);
        }
        self.codec.reset_seq_id();
        self.send(&[COM_QUIT]).await?;
        self.received.clear();
        self.stream.read_buf(&mut self.received).await?;
        Ok(())
    }
}

fn coded(error: PacketCodecError) -> Failure {
    match error {
        PacketCodecError::Io(error) => Failure::from(error),
        PacketCodecError::PacketTooLarge => Failure::TooLong,
        _ => not_understood(io::ErrorKind::InvalidData),
    }
}
