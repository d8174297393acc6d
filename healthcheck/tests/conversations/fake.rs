//! Listeners that say what they are told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Ends the connection, at the end of an answer in [`Fake::talks`].
pub const HANGS_UP: &str = "\0";

/// A listener, and what it was told, line by line.
pub struct Fake {
    pub real: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// One that greets, and answers lines by how they begin. To others it says nothing.
    pub async fn talks(greeting: &'static str, answers: &'static [(&'static str, &'static str)]) -> Fake {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (listener, real) = listen().await;
        let said = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, greeting, answers, said.clone()));
            }
        });
        Fake { real, heard }
    }

    /// What it heard so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn talk(
    stream: TcpStream,
    greeting: &str,
    answers: &[(&str, &str)],
    heard: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(greeting.as_bytes()).await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        heard.lock().unwrap().push(line.trim_end().to_owned());
        if let Some((_, answer)) = answers.iter().find(|(begin, _)| line.starts_with(begin)) {
            stream.write_all(answer.trim_end_matches(HANGS_UP).as_bytes()).await?;
            if answer.ends_with(HANGS_UP) {
                return Ok(());
            }
        }
        line.clear();
    }
    Ok(())
}

/// One that says this to whoever comes, then hangs up when the other side does.
pub async fn says(what: &'static [u8]) -> SocketAddr {
    let (listener, real) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(what).await?;
                stream.read_to_end(&mut Vec::new()).await
            });
        }
    });
    real
}

/// One that says this over and over.
pub async fn repeats(what: &'static [u8]) -> SocketAddr {
    let (listener, real) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { while stream.write_all(what).await.is_ok() {} });
        }
    });
    real
}

/// One that hears something and says this, then hangs up. `hear`: whether it waits to be spoken to.
pub async fn hangs_up_after(hear: bool, what: &'static [u8]) -> SocketAddr {
    let (listener, real) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if hear {
                let _ = stream.read(&mut [0; 4096]).await;
            }
            let _ = stream.write_all(what).await;
        }
    });
    real
}

/// An address where nobody listens.
pub async fn nobody() -> SocketAddr {
    listen().await.1
}

pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let real = listener.local_addr().unwrap();
    (listener, real)
}
