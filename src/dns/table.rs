//! The names that are answered, as an immutable table that is built anew for each change.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_server::proto::rr::{LowerName, Name};

use super::{SCHEMA_VERSION, ZONE};

/// A published name: one address of it. A name with several addresses has several records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The domain name, absolute, with or without a final dot, in any case.
    pub name: Arc<str>,
    /// The VIP.
    pub address: IpAddr,
    /// How long resolvers may keep it, in seconds. A name's records are all given the least of theirs.
    pub ttl: u32,
    /// Named TCP ports, each answered as `_<port name>._tcp.<name>`; unnamed ports are left out.
    pub ports: Vec<(Arc<str>, u16)>,
}

/// A service that is answered with hosts of other names, as a headless one with its pods: one port of one host. Asked for
/// as `_<port name>._tcp.<name>`, or by the name alone for all ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The service's domain name, as in [`Record`].
    pub name: Arc<str>,
    /// The port's name; unnamed ports are not asked for.
    pub port_name: Arc<str>,
    /// The host's TCP port.
    pub port: u16,
    /// The host's domain name, of which there are records.
    pub host: Arc<str>,
    /// As in [`Record`].
    pub ttl: u32,
}

/// What a [`Table`] is built from.
#[derive(Clone, Debug, Default)]
pub struct TableInput {
    /// What is published.
    pub records: Vec<Record>,
    /// Services of hosts.
    pub hosts: Vec<Host>,
    /// Host names of all accesses, published or not. A name here is a zone even while it has no
    /// address, so that it is denied (and asked again soon) instead of refused, which resolvers
    /// take for a broken delegation.
    pub hostnames: Vec<Arc<str>>,
    /// Addresses at which this server is asked, for its name in the NS records. May be empty.
    pub nameservers: Vec<IpAddr>,
    /// The SOA's serial: grows with each table (RFC 1982 arithmetic).
    pub serial: u32,
}

/// A name that is not answered, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The name as it was given.
    pub name: Arc<str>,
    /// Why, for people.
    pub reason: String,
}

/// What there is at one name. All empty for an empty non-terminal: a name that exists only because
/// there is one below it.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) v4: Vec<Ipv4Addr>,
    pub(super) v6: Vec<Ipv6Addr>,
    /// Port and target.
    pub(super) srv: Vec<(u16, Name)>,
    pub(super) text: Option<&'static str>,
    /// The least TTL of the records, in seconds; `None` while there is none.
    pub(super) ttl: Option<u32>,
}

impl Node {
    fn limit_ttl(&mut self, ttl: u32) {
        // RFC 2181, section 8: a TTL has 31 bits.
        let ttl = ttl.min(i32::MAX as u32);
        self.ttl = Some(self.ttl.map_or(ttl, |now| now.min(ttl)));
    }

    fn add_address(&mut self, address: IpAddr, ttl: u32) {
        self.limit_ttl(ttl);
        match address {
            IpAddr::V4(v4) => insert_sorted(&mut self.v4, v4),
            IpAddr::V6(v6) => insert_sorted(&mut self.v6, v6),
        }
    }
}

fn insert_sorted<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Err(place) = list.binary_search(&item) {
        list.insert(place, item);
    }
}

/// Everything that is answered. Names are compared without regard to case (RFC 4343).
#[derive(Debug)]
pub struct Table {
    pub(super) ready: bool,
    pub(super) nodes: HashMap<LowerName, Node>,
    apexes: HashSet<LowerName>,
    pub(super) nameserver: Name,
    pub(super) hostmaster: Name,
    pub(super) serial: u32,
    rejected: Vec<Rejected>,
}

impl Table {
    /// The table of a server that does not yet know what is published: every answer is SERVFAIL.
    pub fn pending() -> Self {
        Self { ready: false, ..Self::build(Vec::new()) }
    }

    /// A table of these records, whose names outside [`ZONE`] are each a zone.
    pub fn build(records: Vec<Record>) -> Self {
        Self::build_from(TableInput { records, ..TableInput::default() })
    }

    /// A table of all that is known. A bad name rejects only itself, see [`Table::rejected`].
    pub fn build_from(input: TableInput) -> Self {
        let zone = known_name(&[ZONE]);
        let nameserver = known_name(&["ns", "dns", ZONE]);
        let mut table = Self {
            ready: true,
            nodes: HashMap::with_capacity(input.records.len() * 2),
            apexes: HashSet::from([LowerName::new(&zone)]),
            hostmaster: known_name(&["hostmaster", ZONE]),
            serial: input.serial,
            rejected: Vec::new(),
            nameserver,
        };
        for hostname in &input.hostnames {
            match domain_name(hostname) {
                Ok(name) => table.add_apex(&name),
                Err(reason) => table.reject(hostname, reason),
            }
        }
        // All zones before all names: whether a name makes a zone must not depend on the order.
        let mut named = Vec::with_capacity(input.records.len());
        for record in &input.records {
            match domain_name(&record.name) {
                Ok(name) => named.push((name, record)),
                Err(reason) => table.reject(&record.name, reason),
            }
        }
        let declared = table.apexes.clone();
        for (name, _) in named.iter().filter(|(name, _)| !zone.zone_of_case(name)) {
            if zone_in(&declared, &LowerName::new(name)).is_none() {
                table.add_apex(name);
            }
        }
        for apex in table.apexes.clone() {
            table.node(apex);
        }
        let own_name = LowerName::new(&table.nameserver);
        table.node(own_name.clone());
        for address in input.nameservers {
            table.node(own_name.clone()).add_address(address, 60);
        }
        for (name, record) in named {
            table.add(&name, record);
        }
        for host in &input.hosts {
            match (domain_name(&host.name), domain_name(&host.host)) {
                (Ok(name), Ok(target)) => {
                    table.add_service(&name, &host.name, (&host.port_name, host.port), &target, host.ttl)
                }
                (Err(reason), _) | (_, Err(reason)) => table.reject(&host.host, reason),
            }
        }
        let version = table.node(LowerName::new(&known_name(&["dns-version", ZONE])));
        version.text = Some(SCHEMA_VERSION);
        table
    }

    /// Names that cannot be answered. Each stands for itself; all others are answered.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// Whether the table knows what is published, see [`Table::pending`].
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The longest zone that the name lies in.
    pub(super) fn zone_of(&self, name: &LowerName) -> Option<LowerName> {
        zone_in(&self.apexes, name)
    }

    fn reject(&mut self, name: &Arc<str>, reason: String) {
        let rejected = Rejected { name: name.clone(), reason };
        if !self.rejected.contains(&rejected) {
            self.rejected.push(rejected);
        }
    }

    /// Makes a zone of the name, unless it lies within [`ZONE`] anyway.
    fn add_apex(&mut self, name: &Name) {
        let lower = LowerName::new(name);
        if !LowerName::new(&known_name(&[ZONE])).zone_of(&lower) {
            self.apexes.insert(lower);
        }
    }

    /// The node of the name, which exists from now on together with those between it and the apex.
    fn node(&mut self, name: LowerName) -> &mut Node {
        if !self.nodes.contains_key(&name) {
            let mut between = Vec::new();
            let mut at = name.clone();
            while !at.is_root() {
                at = at.base_name();
                // A node that is there has all its own above it already.
                let known = self.nodes.contains_key(&at);
                let apex = self.apexes.contains(&at);
                between.push(at.clone());
                if known || apex {
                    // Zones may lie within each other, so only a known node ends the way up.
                    for missing in between.drain(..) {
                        self.nodes.entry(missing).or_default();
                    }
                }
                if known {
                    break;
                }
            }
        }
        self.nodes.entry(name).or_default()
    }

    fn add(&mut self, name: &Name, record: &Record) {
        self.node(LowerName::new(name)).add_address(record.address, record.ttl);
        for (port_name, port) in &record.ports {
            self.add_service(name, &record.name, (port_name, *port), name, record.ttl);
        }
    }

    /// A host's port of a service, which is called `given`.
    fn add_service(&mut self, name: &Name, given: &Arc<str>, (port_name, port): (&str, u16), host: &Name, ttl: u32) {
        if port_name.is_empty() {
            return;
        }
        let service = match service_name(port_name, name) {
            Ok(service) => service,
            Err(reason) => return self.reject(given, reason),
        };
        // Clients of Kubernetes ask for all ports by the name alone, too.
        let in_zone = LowerName::new(&known_name(&[ZONE])).zone_of(&LowerName::new(name));
        let all_ports = in_zone.then(|| LowerName::new(name));
        for owner in [LowerName::new(&service)].into_iter().chain(all_ports) {
            let node = self.node(owner);
            node.limit_ttl(ttl);
            insert_sorted(&mut node.srv, (port, host.clone()));
        }
    }
}

/// The longest of the zones that the name lies in.
fn zone_in(apexes: &HashSet<LowerName>, name: &LowerName) -> Option<LowerName> {
    let mut at = name.clone();
    loop {
        if apexes.contains(&at) {
            return Some(at);
        }
        if at.is_root() {
            return None;
        }
        at = at.base_name();
    }
}

/// A name of our own making. Such names are short and plain, so nothing can go wrong with them;
/// were one bad all the same, the root would stand for it and nothing would be answered from it.
fn known_name(parts: &[&str]) -> Name {
    domain_name(&parts.join(".")).unwrap_or_else(|_| Name::root())
}

/// Reads an absolute domain name, lower-cased, with or without its final dot.
///
/// Labels are letters, digits, `-` and `_`, 1 to 63 of them (RFC 1035, RFC 2181; `_` because
/// service names use it); escapes and international text in its Unicode form are not understood.
pub(super) fn domain_name(text: &str) -> Result<Name, String> {
    let plain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if plain.is_empty() {
        return Err("it is empty".to_owned());
    }
    for label in plain.split('.') {
        if label.is_empty() {
            return Err("it has an empty label".to_owned());
        }
        if label == "*" {
            return Err("wildcard names have no address of their own and are not answered".to_owned());
        }
        if label.len() > 63 {
            return Err(format!("the label `{label}` is longer than 63 characters"));
        }
        if let Some(bad) = label.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_')) {
            return Err(format!("the label `{label}` contains `{}`", bad.escape_default()));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(format!("the label `{label}` begins or ends with `-`"));
        }
    }
    let mut name = Name::from_ascii(&plain).map_err(|e| e.to_string())?;
    name.set_fqdn(true);
    Ok(name)
}

fn service_name(port_name: &str, name: &Name) -> Result<Name, String> {
    let prefix = domain_name(&format!("_{port_name}._tcp"))
        .map_err(|reason| format!("its port `{port_name}` cannot be asked for: {reason}"))?;
    let mut full = prefix.append_name(name).map_err(|e| format!("its port `{port_name}` cannot be asked for: {e}"))?;
    full.set_fqdn(true);
    Ok(full)
}
