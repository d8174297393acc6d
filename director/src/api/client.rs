//! The command line's end of the operator's socket.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::types::ErrorBody;

/// How long an answer may take to begin. A large configuration takes a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error(
        "the director does not run: nobody listens on {0}\n  help: start it with `systemctl start director` or `director \
         run`; if its configuration names another `socket`, give it with --socket"
    )]
    NotRunning(PathBuf),
    /// Not for this user.
    #[error("{0}: permission denied\n  help: run as root, or as a member of the socket's group")]
    Denied(PathBuf),
    /// The director says no.
    #[error("{}{}", body.error, body.hint.as_ref().map(|hint| format!("\n  help: {hint}")).unwrap_or_default())]
    Refused {
        /// Whether what was asked for makes no sense (and nothing failed).
        misuse: bool,
        /// What it says.
        body: ErrorBody,
    },
    /// The conversation broke off.
    #[error("the director on {0} does not answer as it should: {1}")]
    Broken(PathBuf, String),
}

/// A director, by its socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The director that listens on a socket.
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// Asks for a value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.value(Method::GET, path, Vec::new()).await
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        self.value(Method::POST, path, body).await
    }

    /// Asks for lines, which are handed on as they come, until there are no more or `each` breaks.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lines(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut response = self.request(Method::GET, path, Vec::new()).await?;
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|error| self.broken(error))?;
            let Ok(data) = frame.into_data() else { continue };
            rest.extend_from_slice(&data);
            let whole = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            let lines: Vec<u8> = rest.drain(..whole).collect();
            for line in String::from_utf8_lossy(&lines).lines() {
                if each(line).is_break() {
                    return Ok(());
                }
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(self.broken("the last line is incomplete")) }
    }

    async fn value<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, Error> {
        let response = self.request(method, path, body).await?;
        let bytes = response.into_body().collect().await.map_err(|error| self.broken(error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| self.broken(error))
    }

    async fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Response<Incoming>, Error> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|error| self.broken(error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "director")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::new(body.into()))
            .map_err(|error| self.broken(error))?;
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let response = answer
            .map_err(|_| self.broken(format!("no answer within {} s", PATIENCE.as_secs())))?
            .map_err(|error| self.broken(error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    async fn refusal(&self, response: Response<Incoming>) -> Error {
        let status = response.status();
        let misuse = status == StatusCode::UNPROCESSABLE_ENTITY;
        match response.into_body().collect().await {
            Ok(body) => match serde_json::from_slice(&body.to_bytes()) {
                Ok(body) => Error::Refused { misuse, body },
                Err(_) => self.broken(status),
            },
            Err(error) => self.broken(error),
        }
    }

    fn unreachable(&self, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::NotRunning(self.socket.clone())
            }
            io::ErrorKind::PermissionDenied => Error::Denied(self.socket.clone()),
            _ => self.broken(error),
        }
    }

    fn broken(&self, why: impl std::fmt::Display) -> Error {
        Error::Broken(self.socket.clone(), why.to_string())
    }
}
