//! Servers that do what no server should. What all checks over TCP make of them is the same.

use healthcheck::{Check, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kit::{PATIENCE, SHORT, closed_port, outcome, probe, server};

/// That a check fails as it should where there is nobody, nobody speaks, or only nonsense is said.
pub async fn fails_well(check: Check) {
    let name = check.name();
    assert_eq!(probe(check.clone(), closed_port().await).await, Err(Failure::Refused), "{name}");

    let silent = server(async |mut stream| stream.read_to_end(&mut Vec::new()).await.map(|_| ())).await;
    let result = outcome(check.clone(), silent, SHORT).await.result;
    assert!(matches!(result, Err(Failure::Timeout { .. })), "{name}: {result:?}");

    let closing = server(async |stream| {
        drop(stream);
        Ok::<(), ()>(())
    })
    .await;
    let result = outcome(check.clone(), closing, PATIENCE).await.result;
    assert_eq!(result, Err(Failure::Closed), "{name}");

    // 0xff, 0x48 ('H') and 0 are read as lengths by some protocols, so that more is waited for; but not for ever.
    for nonsense in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0xff; 64], &[0; 64]] {
        let strange = server(move |mut stream| async move {
            stream.write_all(nonsense).await?;
            stream.shutdown().await?;
            stream.read_to_end(&mut Vec::new()).await.map(|_| ())
        })
        .await;
        let result = outcome(check.clone(), strange, PATIENCE).await.result;
        let good = matches!(result, Err(Failure::Protocol(_) | Failure::Closed | Failure::TooLong));
        assert!(good, "{name}, {nonsense:?}: {result:?}");
    }

    for byte in [0, b'H', 0x30, 0xff] {
        let endless = server(move |mut stream| async move {
            loop {
                stream.write_all(&[byte; 4096]).await?;
            }
            #[allow(unreachable_code)]
            Ok::<(), std::io::Error>(())
        })
        .await;
        let result = outcome(check.clone(), endless, PATIENCE).await.result;
        let good = matches!(result, Err(Failure::Protocol(_) | Failure::Closed | Failure::TooLong));
        assert!(good, "{name}, {byte}: {result:?}");
    }
}
