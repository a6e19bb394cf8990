//! `causeway cluster leave`.

use std::io::Write;

use anyhow::bail;

use super::{check_label, say};
use crate::cli::args;
use crate::kube::apiserver::{ApiServer, MANAGER, Reason};
use crate::kube::join::{MADE_BY, Place, Removal, Store, info_title, member_secret, of_leaving};
use crate::kube::kinds::{ClusterInfoResource, KeyRef};
use crate::kube::rbac;
use crate::model::object::ClusterRole;

/// Lets a cluster go.
pub(super) async fn run(args: &args::Leave, out: &mut dyn Write) -> anyhow::Result<()> {
    check_label("NAME", &args.name)?;
    let primary = ApiServer::open(&args.primary.choice()).await?;
    let sub = match args.sub.is_named() {
        true => Some(ApiServer::open(&args.sub.choice(args.primary.request_timeout)).await?),
        false => None,
    };
    let info = match primary.get::<ClusterInfoResource>(None, &args.name).await {
        // The definitions are gone, and all ClusterInfos with them; the rest may still be there.
        Err(error) if error.reason == Reason::KindUnknown => None,
        answer => answer?,
    };
    let title = info_title(&args.name);
    if info.as_ref().is_some_and(|info| info.spec.role == Some(ClusterRole::Primary)) && !args.force {
        bail!("{title} is the primary, which every access is of; --force lets go of it all the same");
    }
    let namespace = args.namespace.as_deref().unwrap_or(rbac::NAMESPACE);
    say(out, &format!("On {}:", primary.shown()))?;
    // The ClusterInfo goes first: without its kubeconfig it would be a cluster that fails.
    let was_there = primary.delete::<ClusterInfoResource>(None, &args.name).await?;
    say(out, &format!("{title} {}", if was_there { "deleted" } else { "not found" }))?;
    let is_pushed =
        info.as_ref().and_then(|info| info.spec.source.as_ref()).is_some_and(|source| source.member.is_some());
    let places = info.as_ref().and_then(|info| Place::of(&info.spec)).map_or_else(
        || {
            let key =
                || KeyRef { namespace: namespace.to_owned(), name: args.name.clone(), key: "kubeconfig".to_owned() };
            vec![Place { store: Store::ConfigMap, key: key() }, Place { store: Store::Secret, key: key() }]
        },
        |place| vec![place],
    );
    for place in places.into_iter().filter(|_| !is_pushed) {
        kubeconfig(&primary, &args.name, &place, out).await?;
    }
    let Some(sub) = sub else { return Ok(()) };
    say(out, &format!("On {}:", sub.shown()))?;
    for (what, count) in sub.remove_what_came_down().await? {
        say(out, &format!("{count} {what} deleted"))?;
    }
    let secret = is_pushed.then(|| member_secret(&args.name, namespace, ""));
    for manifest in secret.iter().chain(rbac::sub_cluster(namespace).iter().rev()) {
        let was_there = sub.remove(manifest).await?;
        say(out, &format!("{} {}", manifest.title(), if was_there { "deleted" } else { "not found" }))?;
    }
    let manifest = rbac::namespace(namespace);
    if sub.label(&manifest, MADE_BY).await?.as_deref() == Some(MANAGER) {
        sub.remove(&manifest).await?;
        say(out, &format!("{} deleted", manifest.title()))?;
    }
    Ok(())
}

/// Deletes the object of a kubeconfig, unless it holds other things as well.
pub(super) async fn kubeconfig(
    primary: &ApiServer,
    cluster: &str,
    place: &Place,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let manifest = place.manifest(cluster, "");
    match of_leaving(primary.whole(&manifest).await?.as_ref(), place) {
        Removal::NotThere => say(out, &format!("{} not found", place.title())),
        Removal::Whole => {
            primary.remove(&manifest).await?;
            say(out, &format!("{} deleted", place.title()))
        }
        Removal::Shared => {
            say(out, &format!("{} stays, since it holds other keys; take `{}` out of it", place.title(), place.key.key))
        }
    }
}
