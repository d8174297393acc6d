//! Making network namespaces, and removing a lab with everything that is in it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::host::{NAMESPACES, namespace_path, search_path};
use super::{bpffs, process};
use crate::wait;

/// Where labs keep their files. Only root writes here.
const DIRECTORIES: &str = "/run/director-lab";

/// How the pins of `director/tests/program` begin.
const PROGRAM_TEST: &str = "program-test-";

/// How the namespaces of `director/tests/neighbours.rs` begin.
const NEIGHBOURS_TEST: &str = "nb";

/// Makes a namespace.
pub fn add(namespace: &str) -> Result<()> {
    process::output_of(Command::new("ip").env("PATH", search_path()).args(["netns", "add", namespace]))?;
    Ok(())
}

/// The directory of one lab's files.
pub fn directory(lab: &str) -> PathBuf {
    Path::new(DIRECTORIES).join(lab)
}

/// The names of a lab's hosts and switches that exist.
pub fn hosts_of(lab: &str) -> Vec<String> {
    let prefix = format!("{lab}-");
    entries(NAMESPACES).iter().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// Removes what there is of a lab: the processes in its namespaces, its pins, namespaces and files. That nothing
/// is there is no failure.
pub fn remove(lab: &str) -> Result<()> {
    let namespaces: Vec<String> = hosts_of(lab).iter().map(|host| format!("{lab}-{host}")).collect();
    let inodes = namespaces.iter().filter_map(|name| inode(&namespace_path(name)));
    kill_all_in(&inodes.collect::<Vec<_>>())?;
    bpffs::remove_pins(&bpffs::pins(lab))?;
    delete(&namespaces)?;
    match fs::remove_dir_all(directory(lab)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory(lab).display()))
        }
        _ => Ok(()),
    }
}

fn delete(namespaces: &[String]) -> Result<()> {
    for namespace in namespaces {
        let deleted = process::output_of(
            Command::new("ip").env("PATH", search_path()).args(["netns", "delete", namespace]),
        );
        // Another process may sweep the same leftovers.
        if deleted.is_err() && namespace_path(namespace).exists() {
            deleted?;
        }
    }
    Ok(())
}

/// Removes the labs of tests that were killed before they could, and what the director's own tests so left.
pub fn sweep_stale() -> Result<()> {
    let is_alive = |pid: &str| Path::new("/proc").join(pid).exists();
    let pins = entries(bpffs::MOUNT_POINT);
    for name in pins.iter().filter(|name| is_stale(name, PROGRAM_TEST, is_alive)) {
        bpffs::remove_pins(&bpffs::pins(name))?;
    }
    let stale = |name: &String| is_stale(name, NEIGHBOURS_TEST, is_alive);
    delete(&entries(NAMESPACES).into_iter().filter(stale).collect::<Vec<_>>())?;
    let mut labs: Vec<String> = [entries(NAMESPACES), entries(DIRECTORIES), pins]
        .concat()
        .iter()
        .filter_map(|name| stale_lab(name, is_alive))
        .collect();
    labs.sort();
    labs.dedup();
    labs.iter().try_for_each(|lab| remove(lab))
}

/// The test lab that a namespace, directory or pin of this name belongs to, if its process is gone.
fn stale_lab(name: &str, is_alive: impl Fn(&str) -> bool) -> Option<String> {
    let (pid, number) = owner(name, "dl")?;
    (!is_alive(pid)).then(|| format!("dl{pid}-{number}"))
}

/// Whether a name that begins so is of a process that is gone.
fn is_stale(name: &str, prefix: &str, is_alive: impl Fn(&str) -> bool) -> bool {
    owner(name, prefix).is_some_and(|(pid, _)| !is_alive(pid))
}

/// The process and the number in `<prefix><pid>-<number>[-…]`.
fn owner<'name>(name: &'name str, prefix: &str) -> Option<(&'name str, &'name str)> {
    let mut parts = name.strip_prefix(prefix)?.split('-');
    let (pid, number) = (parts.next()?, parts.next()?);
    let numeric = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (numeric(pid) && numeric(number)).then_some((pid, number))
}

/// Ends the processes in these namespaces, and waits for it: their files can be removed then.
fn kill_all_in(inodes: &[u64]) -> Result<()> {
    wait::until("the lab's processes to end", Duration::from_secs(5), || {
        let alive = processes_in(inodes);
        for pid in &alive {
            let _ = kill_process(*pid, Signal::KILL);
        }
        Ok(alive.is_empty().then_some(()))
    })
}

/// The processes in one namespace.
pub fn processes_of(namespace: &str) -> Vec<Pid> {
    inode(&namespace_path(namespace)).map(|inode| processes_in(&[inode])).unwrap_or_default()
}

fn processes_in(inodes: &[u64]) -> Vec<Pid> {
    let pids = entries("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok());
    // A zombie has no namespace any more: its link cannot be read.
    let inside = |pid: &i32| {
        inode(Path::new(&format!("/proc/{pid}/ns/net"))).is_some_and(|inode| inodes.contains(&inode))
    };
    pids.filter(inside).filter_map(Pid::from_raw).collect()
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn entries(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labs_of_dead_tests_are_stale() {
        let alive = |pid: &str| pid == "77";
        assert_eq!(stale_lab("dl4711-0-client", alive).as_deref(), Some("dl4711-0"));
        assert_eq!(stale_lab("dl4711-12", alive).as_deref(), Some("dl4711-12"));
        assert_eq!(stale_lab("dl77-0-client", alive), None);
        for foreign in ["lab-client", "dl-0-client", "dlx-0", "dl12", "dl12-x", "director"] {
            assert_eq!(stale_lab(foreign, alive), None, "{foreign}");
        }
    }

    #[test]
    fn the_directors_own_tests_leave_nothing_either() {
        let stale = |name: &str, prefix: &str| is_stale(name, prefix, |pid: &str| pid == "77");
        assert!(stale("program-test-4711-0", PROGRAM_TEST) && stale("nb4711-3-real", NEIGHBOURS_TEST));
        assert!(!stale("program-test-77-0", PROGRAM_TEST) && !stale("nb77-3-real", NEIGHBOURS_TEST));
        for foreign in ["nb", "nb-0", "nbx-0", "nb12", "nb12-x", "notebook"] {
            assert!(!stale(foreign, NEIGHBOURS_TEST), "{foreign}");
        }
    }
}
