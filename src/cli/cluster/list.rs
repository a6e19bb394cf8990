//! `causeway cluster list`.

use std::io::Write;

use anyhow::bail;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::args;
use crate::cli::list::{Form, Printer};
use crate::cli::rows::{Column, Row, column, wide};
use crate::cli::table::age;
use crate::kube::apiserver::ApiServer;
use crate::kube::join::{Place, info_title};
use crate::kube::kinds::{ClusterCounts, ClusterInfoResource, ClusterInfoStatus, StatusCondition};
use crate::kube::manifest::shown_object;

/// A ClusterInfo as a row.
#[derive(Serialize)]
#[serde(transparent)]
struct Info {
    #[serde(serialize_with = "shown_object")]
    info: ClusterInfoResource,
}

impl Info {
    fn status(&self) -> Option<&ClusterInfoStatus> {
        self.info.status.as_ref()
    }

    fn count(&self, which: fn(&ClusterCounts) -> u64) -> String {
        self.status()
            .and_then(|status| status.counts.as_ref())
            .map(|counts| which(counts).to_string())
            .unwrap_or_default()
    }

    fn condition(&self, kind: &str) -> Option<&StatusCondition> {
        self.status()?.conditions.iter().find(|condition| condition.kind == kind)
    }

    fn locality(&self, which: fn(&crate::kube::kinds::LocalitySpec) -> Option<String>) -> String {
        self.info.spec.locality.as_ref().and_then(which).unwrap_or_default()
    }

    /// Its own manager does, and there is no kubeconfig.
    fn dials_in(&self) -> bool {
        self.info.spec.source.as_ref().is_some_and(|source| source.member.is_some())
    }

    /// The first of the conditions that does not hold.
    fn trouble(&self) -> Option<&StatusCondition> {
        let order = ["CredentialAccepted", "Connected", "Synced", "CredentialSafe"];
        order.iter().filter_map(|kind| self.condition(kind)).find(|condition| condition.status != "True")
    }
}

/// The time until a moment, or how long ago it was.
fn until(at: &str) -> String {
    let Ok(at) = at.parse::<Timestamp>() else { return at.to_owned() };
    let seconds = at.duration_since(Timestamp::now()).as_secs();
    if seconds >= 0 { format!("in {}", age(seconds)) } else { format!("{} ago", age(-seconds)) }
}

impl Row for Info {
    const KIND: &'static str = "clusterinfo.causeway.dev";
    const PLURAL: &'static str = "clusters";
    const COLUMNS: &'static [Column<Self>] = &[
        column("NAME", Row::name),
        column("ROLE", |r| r.info.spec.role.map(|role| format!("{role:?}")).unwrap_or_default()),
        column("STATE", |r| r.status().map(|status| status.state.clone()).unwrap_or_default()),
        column("SERVICES", |r| r.count(|counts| counts.services)),
        column("PODS", |r| r.count(|counts| counts.pods)),
        column("VERSION", |r| r.status().and_then(|status| status.server_version.clone()).unwrap_or_default()),
        column("KUBECONFIG", |r| match Place::of(&r.info.spec) {
            Some(place) => place.short(),
            None if r.dials_in() => "none, its member dials in".to_owned(),
            None => String::new(),
        }),
        column("CREDENTIAL-ENDS", |r| {
            r.status().and_then(|status| status.credential_expires_at.as_deref()).map(until).unwrap_or_default()
        }),
        column("AGE", |r| {
            let created = r.info.metadata.creation_timestamp.as_ref();
            created.map(|time| age(Timestamp::now().duration_since(time.0).as_secs())).unwrap_or_default()
        }),
        wide("NETWORK", |r| r.info.spec.network.clone().unwrap_or_default()),
        wide("REGION", |r| r.locality(|locality| locality.region.clone())),
        wide("ZONE", |r| r.locality(|locality| locality.zone.clone())),
        wide("NODES", |r| r.count(|counts| counts.nodes)),
        wide("ENDPOINTS", |r| r.count(|counts| counts.endpoints)),
        wide("REASON", |r| r.trouble().map(|condition| condition.reason.clone()).unwrap_or_default()),
        wide("MESSAGE", |r| r.trouble().map(|condition| condition.message.clone()).unwrap_or_default()),
    ];

    fn name(&self) -> String {
        self.info.metadata.name.clone().unwrap_or_default()
    }
}

pub(super) async fn run(args: &args::ListClusters, out: &mut dyn Write) -> anyhow::Result<()> {
    let primary = ApiServer::open(&args.primary.choice()).await?;
    let infos = primary.list::<ClusterInfoResource>(None).await?;
    let mut rows: Vec<Info> = infos.into_iter().map(|info| Info { info }).collect();
    rows.retain(|row| args.names.is_empty() || args.names.contains(&row.name()));
    let form = Form { output: args.output, no_headers: args.no_headers, across_namespaces: true };
    Printer::new(form).print_all(&rows, None, out)?;
    if let Some(name) = args.names.iter().find(|name| !rows.iter().any(|row| row.name() == **name)) {
        bail!("{} not found", info_title(name));
    }
    Ok(())
}
