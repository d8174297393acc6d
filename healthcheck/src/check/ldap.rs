//! A bind and a search of one entry (RFC 4511). Messages are ldap3_proto's, the codec of an LDAP server that is kept up well: it
//! bounds how long and how deep they are, works on any stream, and leaves no task behind. The client `ldap3` was weighed too: it
//! wants to own the socket, sets TLS up by itself, and reads answers of any length.

use bytes::BytesMut;
use ldap3_proto::LdapCodec;
use ldap3_proto::proto::{
    LdapBindCred, LdapBindRequest, LdapDerefAliases, LdapExtendedRequest, LdapFilter, LdapMsg, LdapOp,
    LdapResult, LdapResultCode, LdapSearchRequest, LdapSearchScope,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::{Decoder, Encoder};

use crate::attempt::{self, Attempt, Stream};
use crate::outcome::{Failure, Success};
use crate::spec::{Ldap, Security};
use crate::through::Limited;

/// RFC 4511, 4.14.1.
const STARTTLS: &str = "1.3.6.1.4.1.1466.20037";
/// No attributes (RFC 4511, 4.5.1.8).
const NO_ATTRIBUTES: &str = "1.1";

/// Binds, and searches where there is something to search.
pub async fn probe(ldap: &Ldap, attempt: &mut Attempt) -> Result<Success, Failure> {
    let mut session = connect(ldap, attempt).await?;
    attempt.awaits("answer to the bind");
    bind(ldap, &mut session).await?;
    attempt.step("bound");
    if let Some(base) = &ldap.base {
        attempt.awaits("entry");
        let name = search(base, &mut session).await?;
        attempt.step("entry found");
        attempt::expect("name of the entry", ldap.receive.as_ref(), name.as_bytes())?;
    }
    // The connection ends with it; a server that hangs up first has not failed.
    let _ = session.send(LdapOp::UnbindRequest).await;
    Ok(Success::default())
}

async fn connect(ldap: &Ldap, attempt: &mut Attempt) -> Result<Session<Box<dyn Stream>>, Failure> {
    let tls = match &ldap.security {
        Security::Plain => return Ok(Session::new(attempt.stream(None, &[]).await?)),
        Security::Tls(tls) => return Ok(Session::new(attempt.stream(Some(tls), &[]).await?)),
        Security::Upgraded(tls) => tls,
    };
    let mut session = Session::new(attempt.tcp().await?);
    attempt.awaits("answer to STARTTLS");
    session.send(LdapOp::ExtendedRequest(LdapExtendedRequest { name: STARTTLS.into(), value: None })).await?;
    match session.answer().await? {
        LdapOp::ExtendedResponse(answer) => good("STARTTLS", &answer.res)?,
        _ => return Err(unexpected()),
    }
    // What came before TLS may be anybody's.
    if !session.received.is_empty() {
        return Err(Failure::Protocol("the server went on without TLS".into()));
    }
    attempt.step("STARTTLS");
    Ok(Session::new(Box::new(attempt.secure(tls, &[], session.stream).await?)))
}

async fn bind(ldap: &Ldap, session: &mut Session<Box<dyn Stream>>) -> Result<(), Failure> {
    let (name, password) = match &ldap.login {
        None => ("", ""),
        // It would be taken for an anonymous one, and pass (RFC 4513, 5.1.2).
        Some(login) if login.password.reveal().is_empty() => {
            return Err(Failure::Local("a bind with a name needs a password".into()));
        }
        Some(login) => (login.user.as_str(), login.password.reveal()),
    };
    let cred = LdapBindCred::Simple(password.to_owned());
    session.send(LdapOp::BindRequest(LdapBindRequest { version: 3, dn: name.to_owned(), cred })).await?;
    match session.answer().await? {
        LdapOp::BindResponse(answer) => match answer.res.code {
            LdapResultCode::InvalidCredentials | LdapResultCode::InappropriateAuthentication => {
                Err(Failure::Login(words(&answer.res)))
            }
            _ => good("bind", &answer.res),
        },
        _ => Err(unexpected()),
    }
}

/// The name of the one entry.
async fn search(base: &str, session: &mut Session<Box<dyn Stream>>) -> Result<String, Failure> {
    let request = LdapSearchRequest {
        base: base.to_owned(),
        scope: LdapSearchScope::Base,
        aliases: LdapDerefAliases::Never,
        sizelimit: 0,
        timelimit: 0,
        typesonly: true,
        filter: LdapFilter::Present("objectClass".into()),
        attrs: vec![NO_ATTRIBUTES.into()],
    };
    session.send(LdapOp::SearchRequest(request)).await?;
    let mut found = None;
    loop {
        match session.answer().await? {
            LdapOp::SearchResultEntry(entry) => {
                if found.replace(entry.dn).is_some() {
                    return Err(Failure::Protocol("there is more than one entry".into()));
                }
            }
            LdapOp::SearchResultDone(result) => {
                good("search", &result)?;
                return found.ok_or_else(|| Failure::Protocol("there is no entry".into()));
            }
            LdapOp::SearchResultReference(_) => {}
            _ => return Err(unexpected()),
        }
    }
}

fn good(what: &str, result: &LdapResult) -> Result<(), Failure> {
    match result.code {
        LdapResultCode::Success => Ok(()),
        _ => Err(Failure::Protocol(format!("{what}: {}", words(result)))),
    }
}

/// A result, with the server's explanation where it gives one.
fn words(result: &LdapResult) -> String {
    let code = match result.code {
        LdapResultCode::InvalidCredentials => "invalid credentials".into(),
        LdapResultCode::NoSuchObject => "no such entry".into(),
        LdapResultCode::InsufficentAccessRights => "not allowed".into(),
        LdapResultCode::InvalidDNSyntax => "invalid name".into(),
        LdapResultCode::ConfidentialityRequired => "only with TLS".into(),
        LdapResultCode::StrongerAuthRequired => "a stronger login is required".into(),
        LdapResultCode::Referral => "the entry is on another server".into(),
        ref other => format!("{other:?}"),
    };
    if result.message.is_empty() { code } else { format!("{code}: {}", result.message) }
}

fn unexpected() -> Failure {
    Failure::Protocol("the answer is to another request".into())
}

/// One conversation: one request at a time.
struct Session<S> {
    stream: Limited<S>,
    codec: LdapCodec,
    received: BytesMut,
    request: i32,
}

impl<S: Stream> Session<S> {
    fn new(stream: S) -> Session<S> {
        Session {
            stream: Limited::new(stream),
            codec: LdapCodec::default(),
            received: BytesMut::new(),
            request: 0,
        }
    }

    async fn send(&mut self, operation: LdapOp) -> Result<(), Failure> {
        self.request += 1;
        let mut bytes = BytesMut::new();
        let message = LdapMsg::new(self.request, operation);
        self.codec.encode(message, &mut bytes).map_err(|error| Failure::Local(error.to_string()))?;
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    async fn answer(&mut self) -> Result<LdapOp, Failure> {
        loop {
            let message = self.codec.decode(&mut self.received).map_err(|error| match error.kind() {
                std::io::ErrorKind::OutOfMemory => Failure::TooLong,
                _ => Failure::Protocol("the answer is not LDAP".into()),
            })?;
            match message {
                Some(message) if message.msgid == self.request => return Ok(message.op),
                // A notice of disconnection (RFC 4511, 4.4.1).
                Some(LdapMsg { msgid: 0, op: LdapOp::ExtendedResponse(notice), .. }) => {
                    return Err(Failure::Protocol(format!("the server ends it: {}", words(&notice.res))));
                }
                Some(_) => return Err(unexpected()),
                None => {}
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(Failure::Closed);
            }
        }
    }
}
