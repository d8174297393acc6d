//! Where HTTP is wanted, out of what the core shows.

use std::sync::Arc;

use tokio::sync::watch;

use super::view::View;
use crate::model::Http;

/// Follows the configuration that is in force, for ever.
pub(super) async fn follow(mut view: watch::Receiver<Arc<View>>, wanted: watch::Sender<Option<Http>>) {
    loop {
        let http = view.borrow_and_update().config.http.clone();
        wanted.send_if_modified(|before| {
            let changed = *before != http;
            *before = http;
            changed
        });
        if view.changed().await.is_err() {
            return;
        }
    }
}
