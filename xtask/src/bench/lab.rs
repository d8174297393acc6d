//! Labs for the benches that need real hosts: like any lab, and gone also when the bench is interrupted.

use std::process::exit;
use std::sync::{Mutex, Once, PoisonError};

use ::tests::lab::{self, Builder, Lab};
use anyhow::Result;

/// The lab that is up.
static UP: Mutex<Option<String>> = Mutex::new(None);

/// Makes a lab that an interrupt removes.
pub fn build(builder: Builder) -> Result<Lab> {
    static HANDLER: Once = Once::new();
    let mut handled = Ok(());
    HANDLER.call_once(|| handled = ctrlc::set_handler(interrupted));
    handled?;
    let lab = builder.build()?;
    *UP.lock().unwrap_or_else(PoisonError::into_inner) = Some(lab.name().to_owned());
    Ok(lab)
}

fn interrupted() {
    let up = UP.lock().unwrap_or_else(PoisonError::into_inner).take();
    eprintln!("\nInterrupted.");
    if let Some(Err(error)) = up.map(|name| lab::remove(&name)) {
        eprintln!("{error:#}");
    }
    exit(130);
}
