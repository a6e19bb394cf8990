//! VipPool.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::{Conversion, Converted, NameRule, name_of, no_namespace, selector, unusable};
use crate::kube::field::{Faults, Invalid};
use crate::kube::kinds::{VipPool, VipPoolSpec};
use crate::model::id::PoolName;
use crate::model::object::{AddressRange, AssignedBy, Family, Object, Pool, Selector};

/// The only label of a namespace that can be known without reading namespaces.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// A VipPool.
///
/// # Errors
/// Lists every field that is not valid.
pub fn vip_pool(pool: &VipPool) -> Converted {
    let mut faults = Faults::default();
    let name = name_of(&pool.metadata, NameRule::Subdomain, &mut faults);
    no_namespace(&pool.metadata, "VipPool", &mut faults);
    let empty = VipPoolSpec::default();
    let spec = pool.spec.as_ref().unwrap_or(&empty);
    let assigned_by = spec.assigned_by.unwrap_or_default();
    let ranges = ranges(spec, assigned_by, &mut faults);
    let reserved = reserved(spec, assigned_by, &ranges, &mut faults);
    let gateways = selector(spec.gateways.as_ref(), "spec.gateways", &mut faults);
    let namespaces = selector(spec.namespace_selector.as_ref(), "spec.namespaceSelector", &mut faults);
    only_namespace_names(&namespaces, &mut faults);
    let quota_per_namespace = spec.quota_per_namespace.and_then(|quota| {
        let valid = u32::try_from(quota).ok();
        if valid.is_none() {
            let remedy = "use a whole number from 0, or leave the field out for no limit";
            faults.add("spec.quotaPerNamespace", format!("{quota} is no number of addresses"), remedy);
        }
        valid
    });
    let ranges = ranges.into_iter().map(|(_, range)| range).collect();
    let name = PoolName::from(name);
    faults.or(Conversion::of(Object::Pool(Pool {
        name,
        ranges,
        reserved,
        gateways,
        namespaces,
        quota_per_namespace,
        assigned_by,
    })))
}

/// The valid ranges, each with its place in the list.
fn ranges(spec: &VipPoolSpec, assigned_by: AssignedBy, faults: &mut Faults) -> Vec<(usize, AddressRange)> {
    let texts = spec.ranges.as_deref().unwrap_or_default();
    match assigned_by {
        AssignedBy::ControlPlane if texts.is_empty() => {
            let remedy = "list at least one, such as `240.11.0.0/16`, or say `assignedBy: DataPlane`";
            faults.add("spec.ranges", "the pool has no addresses", remedy);
        }
        AssignedBy::DataPlane if !texts.is_empty() => {
            let remedy = "remove them, or say `assignedBy: ControlPlane`";
            faults.add("spec.ranges", "the gateways' agents have the ranges of a pool assigned by DataPlane", remedy);
        }
        _ => {}
    }
    let mut taken: Vec<(usize, AddressRange)> = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let field = format!("spec.ranges[{i}]");
        match parse_range(text) {
            Err((message, remedy)) => faults.add(field, message, remedy),
            Ok(range) => {
                if let Some((other, _)) = taken.iter().find(|(_, known)| overlap(*known, range)) {
                    let message = format!("`{text}` overlaps with spec.ranges[{other}] (`{}`)", texts[*other]);
                    faults.add(field, message, "make the ranges disjoint, or remove one of the two");
                }
                taken.push((i, range));
            }
        }
    }
    taken
}

fn overlap(a: AddressRange, b: AddressRange) -> bool {
    a.contains(b.first) || b.contains(a.first)
}

fn reserved(
    spec: &VipPoolSpec,
    assigned_by: AssignedBy,
    ranges: &[(usize, AddressRange)],
    faults: &mut Faults,
) -> BTreeSet<IpAddr> {
    let mut taken = BTreeSet::new();
    // With a range that could not be read, nothing is known of what lies within.
    let known = assigned_by == AssignedBy::ControlPlane && ranges.len() == spec.ranges.as_ref().map_or(0, Vec::len);
    for (i, text) in spec.reserved.iter().flatten().enumerate() {
        let field = format!("spec.reserved[{i}]");
        match text.parse::<IpAddr>() {
            Err(_) => {
                let remedy = "write one address each; to spare a whole range, leave it out of spec.ranges";
                faults.add(field, format!("`{text}` is no IP address"), remedy);
            }
            // A reservation that holds nothing back is most likely a typo, and the address that was
            // meant would be given out.
            Ok(address) if known && !ranges.iter().any(|r| r.1.contains(address)) => {
                let message = format!("`{text}` is in none of the pool's ranges, so nothing is held back");
                faults.add(field, message, "write an address of the ranges, or remove it");
            }
            Ok(address) => {
                taken.insert(address);
            }
        }
    }
    taken
}

fn only_namespace_names(namespaces: &Selector, faults: &mut Faults) {
    let labels = namespaces.match_labels.keys().map(|key| (format!("matchLabels[{key}]"), key));
    let expressions = namespaces.match_expressions.iter().enumerate();
    let expressions = expressions.map(|(i, r)| (format!("matchExpressions[{i}].key"), &r.key));
    for (field, key) in labels.chain(expressions).filter(|(_, key)| key.as_ref() != NAMESPACE_LABEL) {
        let message = format!("of a namespace only its name is known, not its label `{key}`");
        let remedy = format!("select by the label `{NAMESPACE_LABEL}`");
        faults.add(format!("spec.namespaceSelector.{field}"), message, remedy);
    }
}

/// Reads `240.11.0.0/16`, `10.0.0.10-10.0.0.20` or a single address.
///
/// # Errors
/// Says why the text is no range of addresses that can be VIPs.
pub fn parse_address_range(text: &str) -> Result<AddressRange, Invalid> {
    parse_range(text).map_err(|(message, remedy)| Invalid { field: String::new(), message, remedy })
}

fn parse_range(text: &str) -> Result<AddressRange, (String, String)> {
    let written = "write it as `240.11.0.0/16`, `fd00:11::/112`, `10.0.0.10-10.0.0.20` or a single address";
    let nonsense = || (format!("`{text}` is no range of addresses"), written.to_owned());
    let address = |part: &str| IpAddr::from_str(part.trim()).map_err(|_| nonsense());
    let range = if text.contains('/') {
        let net: IpNet = text.trim().parse().map_err(|_| nonsense())?;
        if net.addr() != net.network() {
            let message = format!("`{text}` has bits set beyond its prefix length");
            return Err((message, format!("write `{}`, or a range `first-last`", net.trunc())));
        }
        AddressRange { first: net.network(), last: net.broadcast() }
    } else if let Some((first, last)) = text.split_once('-') {
        AddressRange { first: address(first)?, last: address(last)? }
    } else {
        let single = address(text)?;
        AddressRange { first: single, last: single }
    };
    if Family::of(range.first) != Family::of(range.last) {
        let message = format!("`{text}` begins in one IP family and ends in the other");
        return Err((message, "list a range for each family".to_owned()));
    }
    if range.first > range.last {
        let message = format!("`{text}` ends before it begins");
        return Err((message, format!("write `{}-{}`", range.last, range.first)));
    }
    check_usable(text, range)?;
    Ok(range)
}

fn check_usable(text: &str, range: AddressRange) -> Result<(), (String, String)> {
    let remedy = "use unicast addresses that your network leaves to Causeway";
    // The addresses that no VIP can have form blocks: a range touches one if an end of either lies
    // in the other, so it suffices to look at the range's ends and at the blocks' firsts.
    let blocks = ["224.0.0.0", "255.255.255.255", "::", "::ffff:0:0", "fe80::", "ff00::"];
    let firsts = blocks.iter().filter_map(|block| block.parse().ok()).filter(|block| range.contains(*block));
    for address in [range.first, range.last].into_iter().chain(firsts) {
        if let Some(fault) = unusable(address) {
            return Err((format!("`{text}` holds {address}, which {fault}"), remedy.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (text, first, last) in [
            ("240.11.0.0/16", "240.11.0.0", "240.11.255.255"),
            ("fd00:11::/112", "fd00:11::", "fd00:11::ffff"),
            ("10.0.0.10-10.0.0.20", "10.0.0.10", "10.0.0.20"),
            (" 10.0.0.10 - 10.0.0.20 ", "10.0.0.10", "10.0.0.20"),
            ("127.0.0.0/8", "127.0.0.0", "127.255.255.255"),
            ("::1", "::1", "::1"),
        ] {
            let range = AddressRange { first: first.parse().unwrap(), last: last.parse().unwrap() };
            assert_eq!(parse_range(text), Ok(range), "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (text, wanted) in [
            ("", "is no range"),
            ("240.11.0.0/33", "is no range"),
            ("10.0.0.1-", "is no range"),
            ("10.0.0.20-10.0.0.10", "ends before it begins"),
            ("10.0.0.1-fd00::1", "begins in one IP family"),
            ("240.11.0.1/16", "bits set beyond"),
            ("0.0.0.0/0", "this network"),
            ("200.0.0.0-250.0.0.0", "multicast"),
            ("240.0.0.0/4", "broadcast"),
            ("::/0", "unspecified"),
            ("fe80::/64", "link-local"),
            ("ff02::1", "multicast"),
            ("::ffff:10.0.0.1", "IPv4 address in IPv6"),
            ("2000::-ffff::", "multicast"),
            ("fd00::-fec0::", "link-local"),
        ] {
            let (message, remedy) = parse_range(text).unwrap_err();
            assert!(message.contains(wanted), "{text}: {message}");
            assert!(!remedy.is_empty());
        }
    }
}
