//! Why the operator's requests are not granted, and what became of them.

use crate::api::server::Refusal;

/// What was asked for makes no sense.
pub(super) fn misuse(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(true, error.to_string())
}

/// It failed.
pub(super) fn failed(error: &anyhow::Error) -> Refusal {
    Refusal::new(false, format!("{error:#}"))
}

/// Says of a refusal that nothing came of what was asked.
pub(super) fn unchanged(mut refusal: Refusal) -> Refusal {
    refusal.body.error += "\nEverything stays as it was.";
    refusal
}

/// Says of a refusal that services follow what was asked, and the cluster does not.
pub(super) fn half_done(mut refusal: Refusal) -> Refusal {
    refusal.body.error +=
        "\nServices go by the new configuration, the cluster goes on by the old one: reload again.";
    refusal
}

/// Says of a refusal that what was asked is in force all the same.
pub(super) fn retried(mut refusal: Refusal) -> Refusal {
    refusal.body.error += "\nThe new configuration is in force; what failed is tried again.";
    refusal
}
