//! The watch of ServiceExports, a kind that need not be installed: a cluster without it exports nothing, which is no
//! trouble, and it is looked for again seldom. What it says is alike in the versions that there are.

use std::time::Duration;

use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::mpsc;

use super::kind::{Closed, Watch, Without, key_of, keyed, one};
use super::{Item, Told};
use crate::kube::convert;
use crate::kube::field::Invalid;
use crate::kube::kinds::{MCS_GROUP, MCS_VERSIONS, ServiceExport};
use crate::model::object::ObjectKind;

const KIND: ObjectKind = ObjectKind::ServiceExport;
/// The pause while the kind is not installed, or may not be read.
const SELDOM: Duration = Duration::from_secs(10);
/// The pause after the kind was there, before it is believed to be gone: its definition may be on its way to another
/// version.
const SOON: Duration = Duration::from_secs(1);

/// Reads ServiceExports for as long as somebody listens.
pub(super) async fn read(client: Client, out: mpsc::Sender<Told>) {
    let mut was_forbidden = false;
    while let Ok((without, was_there)) = look(&client, &out).await {
        if was_there {
            tokio::time::sleep(SOON).await;
            continue;
        }
        let told = match without {
            // Nothing is there, so that what was is gone.
            Without::Kind => tell_nothing(&out).await,
            // What was last known stays, and the cluster is complete without more.
            Without::Permission => {
                if !std::mem::replace(&mut was_forbidden, true) {
                    tracing::warn!(
                        "ServiceExports may not be read, and nothing is exported by them; to let them be read, apply what \
                         `causeway rbac sub-cluster` prints to the cluster, or `causeway rbac primary` to the primary"
                    );
                }
                out.send(Told::Done(KIND)).await.map_err(|_| Closed)
            }
        };
        if told.is_err() {
            return;
        }
        tokio::time::sleep(SELDOM).await;
    }
}

/// Reads one version after the other until none is served; says why, and whether any was.
async fn look(client: &Client, out: &mpsc::Sender<Told>) -> Result<(Without, bool), Closed> {
    let mut was_there = false;
    for version in MCS_VERSIONS {
        let api = Api::all_with(client.clone(), &resource(version));
        let mut watch = Watch::new(KIND, api, out.clone(), items);
        let without = watch.run_while_there().await?;
        was_there |= watch.was_listed;
        if without == Without::Permission {
            return Ok((without, was_there));
        }
    }
    Ok((Without::Kind, was_there))
}

async fn tell_nothing(out: &mpsc::Sender<Told>) -> Result<(), Closed> {
    out.send(Told::Begin(KIND)).await.map_err(|_| Closed)?;
    out.send(Told::Done(KIND)).await.map_err(|_| Closed)
}

fn resource(version: &str) -> ApiResource {
    ApiResource {
        group: MCS_GROUP.to_owned(),
        version: version.to_owned(),
        api_version: format!("{MCS_GROUP}/{version}"),
        kind: "ServiceExport".to_owned(),
        plural: "serviceexports".to_owned(),
    }
}

/// Whatever else an export says, that it is there is what counts, so that a `spec` that cannot be read hides no export.
fn items(object: &DynamicObject) -> Vec<Item> {
    let key = key_of(KIND, object);
    let spec = object.data.get("spec").filter(|spec| !spec.is_null());
    let read = spec.map(|spec: &Value| serde_json::from_value(spec.clone())).transpose();
    let (spec, error) = match read {
        Ok(spec) => (spec, None),
        Err(error) => (None, Some(error)),
    };
    let export = ServiceExport { metadata: object.metadata.clone(), spec };
    let warnings: Vec<Invalid> = error
        .map(|error| Invalid {
            field: "spec".to_owned(),
            message: format!("it cannot be read, and is left out: {error}"),
            remedy: "write exportedLabels and exportedAnnotations as maps of text".to_owned(),
        })
        .into_iter()
        .collect();
    keyed(key, one(convert::service_export(&export)).warned(&warnings))
}
