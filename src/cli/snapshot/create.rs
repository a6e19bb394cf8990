//! `causeway snapshot create`.

use std::io::{Read, Write};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::{is_system, pod, title};
use crate::cli::Usage;
use crate::cli::args::CreateSnapshot;
use crate::kube::apiserver::{ApiServer, Reason};
use crate::kube::documents::documents;
use crate::kube::kinds::{EndpointSnapshotResource, EndpointSnapshotSpec, SnapshotOwner};
use crate::kube::manifest::Manifest;

pub(super) async fn run(args: &CreateSnapshot, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut snapshots = match &args.file {
        Some(file) => from_file(file)?,
        None => vec![from_flags(args)?],
    };
    let primary = ApiServer::open(&args.primary.choice()).await?;
    let namespace = args.namespace.as_deref();
    for snapshot in &mut snapshots {
        let said =
            snapshot.metadata.namespace.get_or_insert_with(|| namespace.unwrap_or(&primary.namespace).to_owned());
        if let Some(namespace) = namespace.filter(|namespace| namespace != said) {
            bail!(Usage(format!("--namespace {namespace}: the file says the namespace {said}; leave one of them out")));
        }
    }
    let manifests = snapshots.iter().map(Manifest::of_object).collect::<Result<Vec<_>, _>>()?;
    if args.dry_run {
        write!(out, "{}", documents(&manifests)?)?;
        return Ok(out.flush()?);
    }
    for manifest in &manifests {
        let (namespace, name) = (manifest.namespace().unwrap_or_default(), manifest.name());
        match primary.create(manifest).await {
            Ok(()) => writeln!(out, "{} created", title(namespace, name))?,
            Err(error) if error.reason == Reason::Exists => {
                bail!("{error}; change it with `causeway snapshot edit {name} -n {namespace}`")
            }
            Err(error) => bail!(error),
        }
        out.flush()?;
    }
    Ok(())
}

fn from_flags(args: &CreateSnapshot) -> anyhow::Result<EndpointSnapshotResource> {
    let parse = |text: &String| pod::parse(text).map_err(|fault| Usage(format!("--pod {text}: {fault}")));
    let pods = args.pod.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let spec = EndpointSnapshotSpec {
        owner: Some(SnapshotOwner::User),
        access: args.access.clone().unwrap_or_default(),
        service: args.service.clone(),
        cluster: args.cluster.clone(),
        pods,
    };
    Ok(EndpointSnapshotResource::new(args.name.as_deref().unwrap_or_default(), spec))
}

fn from_file(file: &str) -> anyhow::Result<Vec<EndpointSnapshotResource>> {
    let text = match file {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read the standard input")?;
            text
        }
        path => std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?,
    };
    parse(&text).with_context(|| format!("--file {file}"))
}

/// Reads EndpointSnapshots of users, one in each document.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<EndpointSnapshotResource>> {
    let mut found = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let place = || format!("document {}", index + 1);
        let value = serde_yaml_ng::Value::deserialize(document).with_context(place)?;
        if value.is_null() {
            continue;
        }
        let kind = value.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default();
        if kind != "EndpointSnapshot" {
            bail!("{}: it is of kind `{kind}`; only EndpointSnapshots are taken here", place());
        }
        let snapshot: EndpointSnapshotResource = serde_yaml_ng::from_value(value).with_context(place)?;
        if is_system(&snapshot) {
            let message = "spec.owner is System, which are Causeway's own; write `owner: User` or leave it out";
            bail!("{}: {message}", place());
        }
        found.push(snapshot);
    }
    if found.is_empty() {
        bail!("there is no EndpointSnapshot in it");
    }
    Ok(found)
}
