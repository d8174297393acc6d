//! The questions and updates that are sent, and what answers mean (RFC 1035, RFC 2136). Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use hickory_proto::op::update_message::UpdateMessage;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// The types of the records that are replaced.
pub(super) const TYPES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// A name in a zone.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) zone: Name,
    pub(super) name: Name,
}

/// The A and AAAA records of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Their times to live, in seconds.
    pub(super) ttls: BTreeSet<u32>,
}

impl Records {
    pub(super) fn new(addresses: impl IntoIterator<Item = IpAddr>, ttl: u32) -> Records {
        Records { addresses: addresses.into_iter().collect(), ttls: BTreeSet::from([ttl]) }
    }

    /// The addresses as people write them.
    pub(super) fn text(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        if addresses.is_empty() { "no address".into() } else { addresses.join(", ") }
    }

    fn of(&self, kind: RecordType) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied().filter(move |address| address.is_ipv4() == (kind == RecordType::A))
    }
}

impl Place {
    /// # Errors
    /// One of them is no domain name.
    pub(super) fn new(zone: &str, name: &str) -> Result<Place> {
        let read = |text: &str| -> Result<Name> {
            let mut name =
                Name::from_str_relaxed(text).with_context(|| format!("{text} is no domain name"))?;
            name.set_fqdn(true);
            Ok(name)
        };
        Ok(Place { zone: read(zone)?, name: read(name)? })
    }

    pub(super) fn question(&self, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(self.name.clone(), kind));
        message
    }

    /// Takes the records of an answer to [`Place::question`].
    ///
    /// # Errors
    /// The server is not the zone's, or the name cannot have addresses.
    pub(super) fn take(&self, answer: &Message, kind: RecordType, records: &mut Records) -> Result<()> {
        let Place { zone, name } = self;
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            ResponseCode::Refused => {
                bail!("REFUSED: the server does not answer questions for {name}: has it {zone}?")
            }
            other => bail!("{}", words(other)),
        }
        ensure!(
            answer.metadata.authoritative,
            "the server is not one of the zone {zone}: give it the zone's primary server"
        );
        for record in answer.answers.iter().filter(|record| record.name == *name) {
            match &record.data {
                RData::A(address) if kind == RecordType::A => records.addresses.insert(IpAddr::V4(address.0)),
                RData::AAAA(address) if kind == RecordType::AAAA => {
                    records.addresses.insert(IpAddr::V6(address.0))
                }
                // A server leaves out additions of others to an alias, and says nothing of it (RFC 2136, 3.4.2.2).
                RData::CNAME(other) => bail!("{name} is an alias of {}: delete the CNAME record", other.0),
                _ => continue,
            };
            records.ttls.insert(record.ttl);
        }
        Ok(())
    }

    /// The update that replaces all A and AAAA records, if those that there are are still the `found` ones. Other types stay.
    pub(super) fn update(&self, found: &Records, new: &Records, ttl: u32) -> Message {
        let Place { zone, name } = self;
        let mut message = Message::query();
        message.metadata.op_code = OpCode::Update;
        message.add_zone(Query::query(zone.clone(), RecordType::SOA));
        for kind in TYPES {
            if found.of(kind).next().is_none() {
                // "RRset does not exist" (RFC 2136, 2.4.3).
                let mut nothing = Record::update0(name.clone(), 0, kind);
                nothing.dns_class = DNSClass::NONE;
                message.add_pre_requisite(nothing);
            }
            // "RRset exists (value dependent)" (2.4.2).
            message.add_pre_requisites(found.of(kind).map(|address| self.record(address, 0)));
        }
        for kind in TYPES {
            // "Delete an RRset" (2.5.2), then "add to an RRset" (2.5.1).
            let mut all = Record::update0(name.clone(), 0, kind);
            all.dns_class = DNSClass::ANY;
            message.add_update(all);
            message.add_updates(new.of(kind).map(|address| self.record(address, ttl)));
        }
        message
    }

    fn record(&self, address: IpAddr, ttl: u32) -> Record {
        let data = match address {
            IpAddr::V4(address) => RData::A(address.into()),
            IpAddr::V6(address) => RData::AAAA(address.into()),
        };
        Record::from_rdata(self.name.clone(), ttl, data)
    }

    /// What the answer to an update says.
    ///
    /// # Errors
    /// The update was not made.
    pub(super) fn updated(&self, answer: &Message, key: &Name) -> Result<()> {
        let Place { zone, name } = self;
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            ResponseCode::Refused => {
                bail!(
                    "REFUSED: the server does not let the key {key} change {name}; see its policy for updates"
                )
            }
            ResponseCode::NotAuth => {
                bail!("NOTAUTH: the server is not the primary server of the zone {zone}")
            }
            ResponseCode::NotZone => bail!("NOTZONE: {name} is not in the zone {zone}"),
            code @ (ResponseCode::NXRRSet
            | ResponseCode::YXRRSet
            | ResponseCode::NXDomain
            | ResponseCode::YXDomain) => {
                bail!("{}: somebody changed {name} at the same time; it will be looked at again", short(code))
            }
            other => bail!("{}", words(other)),
        }
    }
}

fn short(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NXRRSet => "NXRRSET",
        ResponseCode::YXRRSet => "YXRRSET",
        ResponseCode::YXDomain => "YXDOMAIN",
        _ => "NXDOMAIN",
    }
}

/// What any answer may say.
pub(super) fn words(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR: the server cannot read the message".into(),
        ResponseCode::ServFail => "SERVFAIL: the server failed; its log says why".into(),
        ResponseCode::NotImp => "NOTIMP: the server does not take updates".into(),
        ResponseCode::Refused => "REFUSED: the server does not do this for us".into(),
        ResponseCode::NotAuth => {
            "NOTAUTH: the server does not take our signature, or does not have the zone".into()
        }
        other => format!("RCODE {}: {other}", u16::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(addresses: &[&str]) -> Records {
        Records::new(addresses.iter().map(|address| address.parse().unwrap()), 30)
    }

    #[test]
    fn an_update_asks_for_what_was_found_and_replaces_both_types() {
        let place = Place::new("example.org", "www.example.org.").unwrap();
        let message = place.update(&records(&["192.0.2.1", "192.0.2.2"]), &records(&["2001:db8::1"]), 30);
        let read = Message::from_vec(&message.to_vec().unwrap()).unwrap();
        let show = |records: &[Record]| -> Vec<String> {
            records
                .iter()
                .map(|r| format!("{} {} {} {}", r.dns_class, r.record_type(), r.ttl, r.data))
                .collect()
        };
        assert_eq!(read.metadata.op_code, OpCode::Update);
        assert_eq!(read.queries, [Query::query(place.zone.clone(), RecordType::SOA)]);
        let wanted = ["IN A 0 192.0.2.1", "IN A 0 192.0.2.2", "NONE AAAA 0 "];
        assert_eq!(
            show(&read.answers).iter().map(|text| text.replace("UPDATE", "")).collect::<Vec<_>>(),
            wanted
        );
        let wanted = ["ANY A 0 ", "ANY AAAA 0 ", "IN AAAA 30 2001:db8::1"];
        assert_eq!(
            show(&read.authorities).iter().map(|text| text.replace("UPDATE", "")).collect::<Vec<_>>(),
            wanted
        );
    }
}
