//! Where HTTP is wanted, out of what the core shows.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::view::View;

/// Follows the configuration that is in force, for ever.
pub(super) async fn follow(mut view: watch::Receiver<Arc<View>>, wanted: watch::Sender<Option<SocketAddr>>) {
    loop {
        let listen = view.borrow_and_update().config.http;
        wanted.send_if_modified(|before| std::mem::replace(before, listen) != listen);
        if view.changed().await.is_err() {
            return;
        }
    }
}
