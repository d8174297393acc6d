//! A login to PostgreSQL and a query, by tokio-postgres: it is the client of nearly every Rust program, takes any stream, and
//! is small without its default features.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_util::TryStreamExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::Error;
use tokio_postgres::tls::{ChannelBinding, TlsConnect};
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_rustls::client::TlsStream;

use crate::attempt::{self, Attempt};
use crate::outcome::{Failure, Success};
use crate::spec::{Sql, Tls};
use crate::through::{Limited, beneath};

type Raw = Limited<TcpStream>;

/// Logs in, asks, and wants a row whose first column matches.
pub async fn probe(sql: &Sql, attempt: &mut Attempt) -> Result<Success, Failure> {
    let stream = Limited::new(attempt.tcp().await?);
    let mut config = Config::new();
    config.user(&sql.login.user).password(sql.login.password.reveal()).application_name("healthcheck");
    // Without a database the server takes the one named like the user.
    if let Some(database) = &sql.database {
        config.dbname(database);
    }
    config.ssl_mode(if sql.tls.is_some() { SslMode::Require } else { SslMode::Disable });
    attempt.awaits("login");
    let connector = Connector { tls: sql.tls.as_ref(), attempt };
    let (client, connection) = config.connect_raw(stream, connector).await.map_err(failure)?;
    attempt.step("logged in");
    let mut connection = pin!(connection);
    let result = match &sql.query {
        None => Ok(()),
        Some(query) => {
            attempt.awaits("result");
            tokio::select! {
                biased;
                result = first(&client, query, sql) => result,
                end = &mut connection => return Err(end.err().map_or(Failure::Closed, failure)),
            }
        }
    };
    if result.is_ok() && sql.query.is_some() {
        attempt.step("the query gave a row");
    }
    drop(client);
    // The connection says good-bye now; else the server would log that we were lost. It matters to nobody whether it succeeds.
    let _ = tokio::time::timeout(attempt.left() / 2, connection).await;
    result.map(|()| Success::default())
}

/// The simple protocol gives each type as text.
async fn first(client: &Client, query: &str, sql: &Sql) -> Result<(), Failure> {
    let mut messages = pin!(client.simple_query_raw(query).await.map_err(failure)?);
    while let Some(message) = messages.try_next().await.map_err(failure)? {
        if let SimpleQueryMessage::Row(row) = message {
            let column = if row.is_empty() { None } else { row.try_get(0).map_err(failure)? };
            return attempt::expect("first column", sql.receive.as_ref(), column.unwrap_or("").as_bytes());
        }
    }
    Err(Failure::Protocol("the query gave no row".into()))
}

fn failure(error: Error) -> Failure {
    if let Some(failure) = beneath(&error) {
        return failure;
    }
    if error.is_closed() {
        return Failure::Closed;
    }
    match error.as_db_error() {
        // Class 28: invalid authorization (PostgreSQL's appendix A).
        Some(refusal) if refusal.code().code().starts_with("28") => {
            Failure::Login(refusal.message().to_owned())
        }
        Some(refusal) => Failure::Protocol(refusal.message().to_owned()),
        None => Failure::Protocol(match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }),
    }
}

/// TLS as everywhere else in this crate.
struct Connector<'a> {
    tls: Option<&'a Tls>,
    attempt: &'a mut Attempt,
}

impl<'a> TlsConnect<Raw> for Connector<'a> {
    type Stream = Secured;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Secured, Failure>> + Send + 'a>>;

    fn connect(self, stream: Raw) -> Self::Future {
        Box::pin(async move {
            let tls = self.tls.ok_or_else(|| Failure::Tls("not asked for".into()))?;
            let stream = self.attempt.secure(tls, &[], stream).await?;
            self.attempt.awaits("login");
            Ok(Secured(stream))
        })
    }
}

/// A TLS stream, with the library's trait.
struct Secured(TlsStream<Raw>);

impl tokio_postgres::tls::TlsStream for Secured {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
