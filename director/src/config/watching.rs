//! `probes`, `maintenance_dir`, `notify`: what concerns the checks of all services.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::{MailNotice, Notify, Watching};

use super::reader::{Complaint, Fields, Given, Reader};
use super::tree::{Kind, Tree, shown};
use super::values;

/// What `notify` leaves out.
const AT_MOST_EVERY: Duration = Duration::from_secs(60);
const SMTP: u16 = 25;

/// Reads them; `None` where something is wrong.
pub(super) fn read(reader: &mut Reader, top: &Fields) -> Option<Watching> {
    let otherwise = Watching::default();
    let probes = top.with(reader, "probes", |reader, tree| {
        let fields = reader.fields(tree, "probes", &["in_flight"])?;
        Some(fields.value(reader, "in_flight", |tree, label| values::whole::<u32>(tree, label, 1..=10_000)))
    });
    let directory = top.value(reader, "maintenance_dir", absolute);
    let notify = top.with(reader, "notify", notify);
    let in_flight = match probes.right() {
        Some(Given::Wrong) => return None,
        Some(given) => given.right().map_or(otherwise.in_flight, |count| *count as usize),
        None => otherwise.in_flight,
    };
    if [probes == Given::Wrong, directory == Given::Wrong, notify == Given::Wrong].contains(&true) {
        return None;
    }
    Some(Watching { in_flight, maintenance_dir: directory.right().cloned(), notify: notify.right().cloned() })
}

fn notify(reader: &mut Reader, tree: &Tree) -> Option<Notify> {
    let fields = reader.fields(tree, "notify", &["command", "mail", "at_most_every"])?;
    let command = fields.value(reader, "command", absolute);
    let mail = fields.with(reader, "mail", mail);
    let every = fields.value(reader, "at_most_every", |tree, label| {
        values::duration(tree, label, Duration::ZERO..=Duration::from_secs(24 * 3600))
    });
    if command.is_absent() && mail.is_absent() {
        let complaint = Complaint::new("`notify` needs `command` or `mail`");
        reader.error(fields.place, complaint.hint("write command: /usr/local/bin/notify"));
        return None;
    }
    if command == Given::Wrong || mail == Given::Wrong || every == Given::Wrong {
        return None;
    }
    Some(Notify {
        command: command.right().cloned(),
        mail: mail.right().cloned(),
        at_most_every: every.right().copied().unwrap_or(AT_MOST_EVERY),
    })
}

fn mail(reader: &mut Reader, tree: &Tree) -> Option<MailNotice> {
    let fields = reader.fields(tree, "mail", &["to", "from", "server", "port"])?;
    let to = fields.with(reader, "to", |reader, tree| {
        let single = std::slice::from_ref(tree);
        let items = if let Kind::List(items) = &tree.kind { items } else { single };
        items.iter().map(|item| reader.take(item.place, address(item, "to"))).collect::<Option<Vec<_>>>()
    });
    let from = fields.value(reader, "from", address);
    let server = fields.value(reader, "server", |tree, label| values::text(tree, label).map(str::to_owned));
    let port = fields.value(reader, "port", |tree, label| values::whole(tree, label, 1..=65535));
    for (absent, key, example) in
        [(to.is_absent(), "to", "[ops@example.org]"), (from.is_absent(), "from", "director@example.org")]
    {
        if absent {
            let complaint = Complaint::new(format!("`mail` needs `{key}`"));
            reader.error(fields.place, complaint.hint(format!("write {key}: {example}")));
        }
    }
    if server == Given::Wrong || port == Given::Wrong {
        return None;
    }
    Some(MailNotice {
        to: to.right()?.clone(),
        from: from.right()?.clone(),
        server: server.right().cloned().unwrap_or_else(|| "127.0.0.1".into()),
        port: port.right().copied().unwrap_or(SMTP),
    })
}

fn address(tree: &Tree, label: &str) -> Result<String, Complaint> {
    let text = values::text(tree, label)?;
    match text.parse::<lettre::Address>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Complaint::new(format!("{} is no e-mail address: {error}", shown(text)))),
    }
}

fn absolute(tree: &Tree, label: &str) -> Result<PathBuf, Complaint> {
    let text = values::text(tree, label)?;
    if text.starts_with('/') {
        return Ok(text.into());
    }
    Err(Complaint::new(format!("`{label}` must be an absolute path, found {}", shown(text))))
}
