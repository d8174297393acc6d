//! Where the data plane is attached, and keeping it so.

use std::collections::BTreeSet;

use anyhow::Result;

use super::worker::Worker;
use crate::dataplane::{Attachment, Dataplane, Error};

/// The interfaces the data plane is attached to.
pub(super) struct Interfaces {
    worker: Worker,
    attachments: Vec<Attachment>,
}

impl Interfaces {
    /// None yet.
    pub(super) fn new(worker: Worker) -> Interfaces {
        Interfaces { worker, attachments: Vec::new() }
    }

    /// Where it is attached.
    pub(super) fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// Attaches to those of `configured` that are new. If one of them cannot be attached to, none is.
    pub(super) async fn add(&mut self, configured: &[String]) -> Result<()> {
        let old: BTreeSet<&String> =
            self.attachments.iter().map(|attachment| &attachment.interface).collect();
        let new: Vec<String> = configured.iter().filter(|name| !old.contains(name)).cloned().collect();
        match self.attach(&new).await? {
            Ok(attachments) => {
                for Attachment { interface, mode, replaced, .. } in &attachments {
                    tracing::info!(%interface, %mode, replaced, "attached");
                }
                self.attachments.extend(attachments);
                Ok(())
            }
            Err((attached, error)) => {
                // What a predecessor had attached stays: it may be all that keeps traffic going.
                let fresh = attached.into_iter().filter(|attachment| !attachment.replaced);
                let fresh: Vec<String> = fresh.map(|attachment| attachment.interface).collect();
                let undo = move |dataplane: &mut Dataplane| {
                    fresh.iter().try_for_each(|interface| dataplane.detach_interface(interface))
                };
                self.worker.ask(undo).await??;
                Err(error.into())
            }
        }
    }

    /// Attaches to all of these, or says to which it did before the error.
    async fn attach(
        &self,
        interfaces: &[String],
    ) -> Result<Result<Vec<Attachment>, (Vec<Attachment>, Error)>> {
        let interfaces = interfaces.to_vec();
        let attach = move |dataplane: &mut Dataplane| {
            let mut attached = Vec::new();
            for interface in &interfaces {
                match dataplane.attach(interface) {
                    Ok(attachment) => attached.push(attachment),
                    Err(error) => return Err((attached, error)),
                }
            }
            Ok(attached)
        };
        self.worker.ask(attach).await
    }

    /// Detaches from those that are not configured (any more).
    pub(super) async fn remove_others(&mut self, configured: &[String]) -> Result<()> {
        let kept: BTreeSet<String> = configured.iter().cloned().collect();
        let detach = move |dataplane: &mut Dataplane| -> Result<Vec<String>, Error> {
            let mut others = dataplane.pinned_interfaces();
            others.retain(|interface| !kept.contains(interface));
            others.iter().try_for_each(|interface| dataplane.detach_interface(interface))?;
            Ok(others)
        };
        for interface in self.worker.ask(detach).await?? {
            tracing::info!(interface, "detached");
        }
        self.attachments.retain(|attachment| configured.contains(&attachment.interface));
        Ok(())
    }

    /// Removes what directors with other layouts of maps left, once nothing of it is needed any more. The caller has their locks.
    pub(super) async fn remove_other_layouts(&self) -> Result<()> {
        for directory in self.worker.ask(Dataplane::remove_other_layouts).await?? {
            tracing::info!(pins = %directory.display(), "removed what another layout's director left");
        }
        Ok(())
    }

    /// Detaches from all, those that a predecessor left too.
    pub(super) async fn detach_all(&mut self) -> Result<()> {
        self.remove_others(&[]).await
    }

    /// Attaches again where an interface went away and came back. Says whether anything came or went, and what is wrong.
    pub(super) async fn repair(&mut self, configured: &[String]) -> (bool, Vec<String>) {
        let (mut attachments, mut problems) = (Vec::new(), Vec::new());
        for interface in configured {
            match self.attach(std::slice::from_ref(interface)).await {
                Ok(Ok(attached)) => attachments.extend(attached),
                Ok(Err((_, error))) => {
                    problems.push(format!("interface {interface}: {error}"));
                    if matches!(error, Error::NoInterface(_)) {
                        self.forget(interface.clone()).await;
                    }
                }
                Err(error) => problems.push(format!("interface {interface}: {error:#}")),
            }
        }
        for attachment in attachments.iter().filter(|attachment| !self.attachments.contains(attachment)) {
            tracing::warn!(interface = %attachment.interface, mode = %attachment.mode, "attached again");
        }
        let changed = self.attachments != attachments;
        self.attachments = attachments;
        (changed, problems)
    }

    /// Lets go of an interface that went away: its link is dead.
    async fn forget(&self, interface: String) {
        match self.worker.ask(move |dataplane| dataplane.detach_interface(&interface)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("{error}"),
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
}
