//! A command's exit status (ldirectord's `external`, keepalived's `MISC_CHECK`).

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use tokio::process::Command;

use crate::attempt::Attempt;
use crate::outcome::{Failure, Success};
use crate::process::Running;
use crate::spec::External;

/// Runs a command and judges its exit status: 0 is good. With `dynamic`, so are 2 to 255, which give the weights 0 to 253.
///
/// After its own arguments the command gets four more, as ldirectord has them: the VIP, its port, the real server, its port. The
/// same are in its environment, as `VIP`, `VPORT`, `RIP` and `RPORT`, with the timeout in seconds as `TIMEOUT`. A service for any
/// port has port 0. IPv6 addresses have no brackets. It reads nothing, and what it writes is thrown away.
///
/// When it has ended, or its time is up, whatever is left of its process group is killed.
///
/// # Errors
/// It cannot be started; its exit status is not good; a signal ended it.
pub async fn probe(external: &External, attempt: &mut Attempt) -> Result<Success, Failure> {
    let command = external.command.display();
    let cannot = |error: io::Error| Failure::Local(format!("{command}: {error}"));
    let running = Running::start(&mut prepare(external, attempt)).map_err(cannot)?;
    attempt.step(format!("started, process {}", running.id()));
    attempt.awaits("exit");
    let status = running.finish().await?;
    attempt.step(status.to_string());
    judge(external, status)
}

fn prepare(external: &External, attempt: &Attempt) -> Command {
    let target = attempt.target();
    let words = [
        ("VIP", target.virtual_.ip().to_string()),
        ("VPORT", target.virtual_.port().to_string()),
        ("RIP", target.real.ip().to_string()),
        ("RPORT", target.real.port().to_string()),
    ];
    let mut command = Command::new(&external.command);
    command
        .args(&external.arguments)
        .args(words.iter().map(|(_, value)| value))
        .envs(words.iter().map(|(name, value)| (name, value)))
        .env("TIMEOUT", attempt.timeout().as_secs_f64().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn judge(external: &External, status: ExitStatus) -> Result<Success, Failure> {
    if let Some(signal) = status.signal() {
        return Err(Failure::Signal(signal));
    }
    match status.code().unwrap_or_default() {
        0 => Ok(Success::default()),
        code @ 2..=255 if external.dynamic => Ok(Success { weight: u16::try_from(code - 2).ok() }),
        code => Err(Failure::Exit(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(dynamic: bool, wait_status: i32) -> Result<Option<u16>, Failure> {
        let external = External { command: "/bin/true".into(), arguments: Vec::new(), dynamic };
        judge(&external, ExitStatus::from_raw(wait_status)).map(|success| success.weight)
    }

    #[test]
    fn statuses_become_weights_only_if_they_should() {
        assert_eq!(judged(false, 0), Ok(None));
        assert_eq!(judged(true, 0), Ok(None));
        for dynamic in [false, true] {
            assert_eq!(judged(dynamic, 1 << 8), Err(Failure::Exit(1)));
            assert_eq!(judged(dynamic, 9), Err(Failure::Signal(9)));
        }
        assert_eq!(judged(false, 2 << 8), Err(Failure::Exit(2)));
        assert_eq!(judged(true, 2 << 8), Ok(Some(0)));
        assert_eq!(judged(true, 255 << 8), Ok(Some(253)));
    }
}
