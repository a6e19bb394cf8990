//! `causeway snapshot get`.

use std::io::Write;

use anyhow::bail;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::args::{GetSnapshots, Owner};
use crate::cli::list::{Form, Printer};
use crate::cli::rows::{Column, Row, column, namespace, wide};
use crate::cli::table::{age, some_of};
use crate::kube::apiserver::ApiServer;
use crate::kube::kinds::{EndpointSnapshotResource, SnapshotOwner, SnapshotPod};
use crate::kube::manifest::shown_object;

/// An EndpointSnapshot as a row.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Snapshot {
    #[serde(serialize_with = "shown_object")]
    pub object: EndpointSnapshotResource,
}

impl Snapshot {
    fn namespace(&self) -> String {
        self.object.metadata.namespace.clone().unwrap_or_default()
    }

    fn pods(&self, which: fn(&SnapshotPod) -> bool) -> usize {
        self.object.spec.pods.iter().filter(|pod| which(pod)).count()
    }

    fn vips(&self) -> String {
        self.object.status.as_ref().map(|status| some_of(&status.vips, 3)).unwrap_or_default()
    }
}

fn drains(pod: &SnapshotPod) -> bool {
    pod.drain == Some(true)
}

fn takes_traffic(pod: &SnapshotPod) -> bool {
    pod.ready != Some(false) && !drains(pod)
}

fn since(at: Timestamp) -> String {
    age(Timestamp::now().duration_since(at).as_secs())
}

impl Row for Snapshot {
    const KIND: &'static str = "endpointsnapshot.causeway.dev";
    const PLURAL: &'static str = "snapshots";
    const COLUMNS: &'static [Column<Self>] = &[
        namespace(Snapshot::namespace),
        column("NAME", Row::name),
        column("OWNER", |r| format!("{:?}", r.object.spec.owner.unwrap_or_default())),
        column("ACCESS", |r| r.object.spec.access.clone()),
        column("CLUSTER", |r| r.object.spec.cluster.clone().unwrap_or_default()),
        column("PODS", |r| r.object.spec.pods.len().to_string()),
        column("READY", |r| r.pods(takes_traffic).to_string()),
        column("DRAINING", |r| r.pods(drains).to_string()),
        column("VIPS", Snapshot::vips),
        column("AGE", |r| r.object.metadata.creation_timestamp.as_ref().map(|time| since(time.0)).unwrap_or_default()),
        wide("SERVICE", |r| r.object.spec.service.clone().unwrap_or_default()),
        wide("HOSTNAMES", |r| r.object.status.as_ref().map(|status| some_of(&status.hostnames, 3)).unwrap_or_default()),
        wide("BOUND", |r| {
            let at = r.object.status.as_ref().and_then(|status| status.bound_at.as_ref()?.parse().ok());
            at.map(since).unwrap_or_default()
        }),
    ];

    fn name(&self) -> String {
        self.object.metadata.name.clone().unwrap_or_default()
    }
}

/// A pod of an EndpointSnapshot as a row.
#[derive(Serialize)]
pub(super) struct Pod {
    namespace: String,
    snapshot: String,
    access: String,
    cluster: Option<String>,
    #[serde(flatten)]
    pod: SnapshotPod,
}

impl Row for Pod {
    const KIND: &'static str = "pod";
    const PLURAL: &'static str = "pods";
    const COLUMNS: &'static [Column<Self>] = &[
        namespace(|r| r.namespace.clone()),
        column("SNAPSHOT", |r| r.snapshot.clone()),
        column("POD", |r| r.pod.name.clone()),
        column("CLUSTER", |r| r.cluster.clone().unwrap_or_default()),
        column("ADDRESSES", |r| some_of(&r.pod.addresses, 2)),
        column("PORTS", |r| {
            let port = |(name, number): (&String, &u16)| match name.as_str() {
                "" => number.to_string(),
                name => format!("{name}:{number}"),
            };
            some_of(r.pod.ports.iter().map(port), 3)
        }),
        column("READY", |r| r.pod.ready.unwrap_or(true).to_string()),
        column("DRAIN", |r| drains(&r.pod).to_string()),
        column("WEIGHT", |r| r.pod.weight.map(|weight| weight.to_string()).unwrap_or_default()),
        column("ZONE", |r| r.pod.zone.clone().unwrap_or_default()),
        wide("REGION", |r| r.pod.region.clone().unwrap_or_default()),
        wide("NODE", |r| r.pod.node.clone().unwrap_or_default()),
        wide("UID", |r| r.pod.uid.clone().unwrap_or_default()),
    ];

    fn name(&self) -> String {
        self.pod.name.clone()
    }
}

pub(super) async fn run(args: &GetSnapshots, out: &mut dyn Write) -> anyhow::Result<()> {
    let primary = ApiServer::open(&args.primary.choice()).await?;
    let of_one = Some(args.namespace.as_deref().unwrap_or(&primary.namespace)).filter(|_| !args.all_namespaces);
    let all = primary.list::<EndpointSnapshotResource>(of_one).await?;
    let rows: Vec<Snapshot> =
        all.into_iter().map(|object| Snapshot { object }).filter(|row| is_asked_for(args, row)).collect();
    let missing = args.names.iter().find(|name| !rows.iter().any(|row| row.name() == **name));
    let missing = missing.map(|name| match of_one {
        Some(namespace) => super::title(namespace, name),
        None => format!("endpointsnapshot.causeway.dev/{name}"),
    });
    let form = Form { output: args.output, no_headers: args.no_headers, across_namespaces: of_one.is_none() };
    if args.pods {
        Printer::new(form).print_all(&pods(rows), of_one, out)?;
    } else {
        Printer::new(form).print_all(&rows, of_one, out)?;
    }
    match missing {
        Some(title) => bail!("{title} not found"),
        None => Ok(()),
    }
}

fn is_asked_for(args: &GetSnapshots, row: &Snapshot) -> bool {
    let spec = &row.object.spec;
    let owner = match spec.owner.unwrap_or_default() {
        SnapshotOwner::System => Owner::System,
        SnapshotOwner::User => Owner::User,
    };
    (args.names.is_empty() || args.names.contains(&row.name()))
        && args.access.as_ref().is_none_or(|access| *access == spec.access)
        && args.cluster.as_ref().is_none_or(|cluster| Some(cluster) == spec.cluster.as_ref())
        && args.owner.is_none_or(|wanted| wanted == owner)
}

fn pods(rows: Vec<Snapshot>) -> Vec<Pod> {
    let of = |row: Snapshot| {
        let (namespace, snapshot) = (row.namespace(), row.name());
        let spec = row.object.spec;
        spec.pods.into_iter().map(move |pod| Pod {
            namespace: namespace.clone(),
            snapshot: snapshot.clone(),
            access: spec.access.clone(),
            cluster: spec.cluster.clone(),
            pod,
        })
    };
    rows.into_iter().flat_map(of).collect()
}
