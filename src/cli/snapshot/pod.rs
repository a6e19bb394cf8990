//! A pod as `--pod` writes it. Pure.

use std::net::IpAddr;

use crate::kube::field::{closest, one_of};
use crate::kube::kinds::SnapshotPod;

const KEYS: [&str; 10] = ["name", "address", "port", "weight", "drain", "ready", "zone", "region", "node", "uid"];

/// Reads `name=vm-1,address=10.1.2.3,port=http:8080,drain`.
///
/// # Errors
/// Says which part makes no sense and how it is written.
pub(super) fn parse(text: &str) -> Result<SnapshotPod, String> {
    let mut pod = SnapshotPod::default();
    let mut seen: Vec<&str> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if seen.contains(&key) && !["address", "port"].contains(&key) {
            return Err(format!("`{key}` is there twice"));
        }
        seen.push(key);
        let has_value = part.contains('=');
        if !has_value && !["drain", "ready"].contains(&key) && KEYS.contains(&key) {
            return Err(format!("`{key}` has no value; write {key}=…"));
        }
        match key {
            "name" => pod.name = value.to_owned(),
            "address" => {
                let address: IpAddr = value.parse().map_err(|_| format!("`{value}` is no IP address"))?;
                pod.addresses.push(address.to_string());
            }
            "port" => {
                let (name, number) = value.rsplit_once(':').unwrap_or(("", value));
                let number = number.parse().ok().filter(|number| *number > 0);
                let number = number.ok_or_else(|| format!("port={value}: write port=http:8080 or port=8080"))?;
                if pod.ports.insert(name.to_owned(), number).is_some() {
                    return Err(format!("the port `{name}` is there twice"));
                }
            }
            "weight" => {
                let weight = value.parse().ok().filter(|weight| (1..=1000).contains(weight));
                pod.weight = Some(weight.ok_or_else(|| format!("weight={value}: write a number from 1 to 1000"))?);
            }
            "drain" => pod.drain = Some(switch(key, value)?),
            "ready" => pod.ready = Some(switch(key, value)?),
            "zone" => pod.zone = Some(value.to_owned()),
            "region" => pod.region = Some(value.to_owned()),
            "node" => pod.node = Some(value.to_owned()),
            "uid" => pod.uid = Some(value.to_owned()),
            other => {
                let meant = closest(other, KEYS).map(|key| format!("did you mean `{key}`?"));
                return Err(format!(
                    "`{other}` is not known; {}",
                    meant.unwrap_or_else(|| format!("write {}", one_of(&KEYS)))
                ));
            }
        }
    }
    if pod.name.is_empty() {
        return Err("the name is missing; write name=…".to_owned());
    }
    Ok(pod)
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{key}={value}: write {key}, {key}=true or {key}=false")),
    }
}

/// The same text of a pod again, for remedies that people can copy.
pub(super) fn written(pod: &SnapshotPod) -> String {
    let mut parts = vec![format!("name={}", pod.name)];
    parts.extend(pod.weight.map(|weight| format!("weight={weight}")));
    parts.extend(pod.drain.map(|drain| if drain { "drain".to_owned() } else { "drain=false".to_owned() }));
    parts.extend(pod.ready.map(|ready| format!("ready={ready}")));
    parts.join(",")
}
