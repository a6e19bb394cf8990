//! `causeway cluster join`.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use jiff::Timestamp;

use super::{check_label, say};
use crate::cli::Usage;
use crate::cli::args;
use crate::kube::apiserver::{ApiServer, MANAGER};
use crate::kube::connect::Credential;
use crate::kube::documents::documents;
use crate::kube::join::{
    Address, Join, MADE_BY, Place, Said, Store, Word, info_title, kubeconfig, objection, of_sub_cluster, word,
};
use crate::kube::kinds::{ClusterInfoResource, StatusCondition};
use crate::kube::manifest::Manifest;
use crate::kube::rbac;

/// How often the ClusterInfo is read while the control plane is waited for.
const EVERY: Duration = Duration::from_millis(250);
/// A credential that fails for so long, with the same reason, will not work by itself.
const SETTLED: Duration = Duration::from_secs(5);

/// Lets a cluster join, or gives it a new credential.
pub(super) async fn run(args: &args::Join, out: &mut dyn Write) -> anyhow::Result<()> {
    let join = wanted(args)?;
    if args.member.push {
        return super::push::run(args, &join, out).await;
    }
    let sub_namespace = args.namespace.as_deref().unwrap_or(rbac::NAMESPACE);
    let sub = ApiServer::open(&args.sub.choice(args.primary.request_timeout)).await?;
    let address = address(args, &sub)?;
    if args.dry_run {
        return print(&join, sub_namespace, &address, out);
    }
    let primary = ApiServer::open(&args.primary.choice()).await?;
    // Before anything is made: whether the primary knows the kind, and whether the cluster is here already.
    let infos = primary.list::<ClusterInfoResource>(None).await?;
    let (sub_uid, primary_uid) = (sub.uid().await?, primary.uid().await?);
    if let Some(why) = objection(&join.name, &sub_uid, &primary_uid, &infos).filter(|_| !args.force) {
        bail!("{why}; --force joins all the same");
    }
    warn(&address, &primary);

    say(out, &format!("On {}:", sub.shown()))?;
    namespace(&sub, sub_namespace, out).await?;
    for manifest in of_sub_cluster(sub_namespace)? {
        apply(&sub, &manifest, out).await?;
    }
    let token = sub.token(sub_namespace, rbac::READER, args.token_ttl).await?;
    say(out, &format!("token for serviceaccount/{} created, ends {}", rbac::READER, token.expires_at))?;
    if token.expires_at.duration_since(Timestamp::now()).as_secs() < args.token_ttl.as_secs() as i64 - 60 {
        drop(writeln!(
            io::stderr(),
            "warning: the API server gives no longer lifetime than that, though {:?} was asked for",
            args.token_ttl
        ));
    }

    let text = kubeconfig(&join.name, &address, &token.text)?;
    // As the control plane will read it.
    let credential = Credential::parse(&text)?;
    let before = infos.into_iter().find(|info| info.metadata.name.as_deref() == Some(&join.name));
    let place = join.place(before.as_ref());
    if let (Some(why), Store::ConfigMap) = (credential.long_lived, place.store) {
        drop(writeln!(
            io::stderr(),
            "warning: {why}, and whoever may read ConfigMaps can use it; use --secret or a shorter --token-ttl"
        ));
    }
    say(out, &format!("On {}:", primary.shown()))?;
    namespace(&primary, &place.key.namespace, out).await?;
    apply(&primary, &place.manifest(&join.name, &text), out).await?;
    apply(&primary, &join.cluster_info(&place, before.as_ref()), out).await?;
    if let Some(old) = before.as_ref().and_then(|info| Place::of(&info.spec)).filter(|old| *old != place) {
        super::leave::kubeconfig(&primary, &join.name, &old, out).await?;
    }
    if args.wait.is_zero() {
        return Ok(());
    }
    let said_before = before.and_then(|info| info.status).unwrap_or_default().conditions;
    wait(args.wait, &primary, &join.name, &said_before, credential.expires_at, out).await
}

/// What the flags ask for.
fn wanted(args: &args::Join) -> Result<Join, Usage> {
    check_label("NAME", &args.name)?;
    for namespace in args.exclude_namespace.iter() {
        check_label("--exclude-namespace", namespace)?;
    }
    if let Some(namespace) = &args.namespace {
        check_label("--namespace", namespace)?;
    }
    let texts = [("--network", &args.network), ("--region", &args.region), ("--zone", &args.zone)];
    for (flag, text) in texts {
        if let Some(text) = text.as_ref().filter(|text| text.trim().is_empty() || text.chars().any(char::is_control)) {
            return Err(Usage(format!("{flag} `{}` is empty or has control characters", text.escape_default())));
        }
    }
    Ok(Join {
        name: args.name.clone(),
        network: args.network.clone(),
        region: args.region.clone(),
        zone: args.zone.clone(),
        excluded: Some(args.exclude_namespace.clone()).filter(|excluded| !excluded.is_empty()),
        namespace: args.namespace.clone(),
        store: match (args.secret, args.config_map) {
            (true, _) => Some(Store::Secret),
            (false, true) => Some(Store::ConfigMap),
            (false, false) => None,
        },
    })
}

/// By which the control plane reaches the sub-cluster.
fn address(args: &args::Join, sub: &ApiServer) -> anyhow::Result<Address> {
    let known = sub.address.clone().ok_or_else(|| Usage("--sub-kubeconfig names no server".to_owned()))?;
    Ok(Address { server: args.server.clone().unwrap_or_else(|| known.server.clone()), ..known })
}

fn warn(address: &Address, primary: &ApiServer) {
    let is_loopback = |server: &str| {
        let host = server.parse::<hyper::Uri>().ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    };
    let is_primary_here = primary.address.as_ref().is_some_and(|address| is_loopback(&address.server));
    let mut warnings = Vec::new();
    if is_loopback(&address.server) && !is_primary_here {
        warnings.push(format!(
            "the sub-cluster's server is {}, which only this machine reaches; --server names another address",
            address.server
        ));
    }
    if address.skips_verification {
        warnings.push("the sub-cluster's certificate is not verified, as --sub-kubeconfig says".to_owned());
    }
    for warning in warnings {
        drop(writeln!(io::stderr(), "warning: {warning}"));
    }
}

/// Makes a namespace where there is none; one that is there is somebody's, and stays as it is.
pub(super) async fn namespace(server: &ApiServer, name: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let manifest = rbac::namespace(name).labelled(MADE_BY, MANAGER);
    if server.whole(&manifest).await?.is_some() {
        return say(out, &format!("{} unchanged", manifest.title()));
    }
    apply(server, &manifest, out).await
}

pub(super) async fn apply(server: &ApiServer, manifest: &Manifest, out: &mut dyn Write) -> anyhow::Result<()> {
    let outcome = server.apply(manifest).await?;
    say(out, &format!("{} {outcome}", manifest.title()))
}

/// Prints what would be made, and sends nothing. What an earlier joining said is not known then.
fn print(join: &Join, sub_namespace: &str, address: &Address, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut of_sub = vec![rbac::namespace(sub_namespace).labelled(MADE_BY, MANAGER)];
    of_sub.extend(of_sub_cluster(sub_namespace)?);
    let place = join.place(None);
    let text = kubeconfig(&join.name, address, "<token>")?;
    let of_primary = [
        rbac::namespace(&place.key.namespace).labelled(MADE_BY, MANAGER),
        place.manifest(&join.name, &text),
        join.cluster_info(&place, None),
    ];
    write!(out, "# On the sub-cluster:\n{}---\n", documents(&of_sub)?)?;
    write!(out, "# On the primary:\n{}", documents(&of_primary)?)?;
    Ok(out.flush()?)
}

/// Waits until the control plane says how it went.
async fn wait(
    patience: Duration,
    primary: &ApiServer,
    name: &str,
    before: &[StatusCondition],
    expires_at: Option<Timestamp>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    say(out, &format!("waiting up to {patience:?} for the control plane to connect"))?;
    let until = Instant::now() + patience;
    let title = info_title(name);
    let mut failing: Option<(Instant, Said)> = None;
    loop {
        let info = primary.get::<ClusterInfoResource>(None, name).await?;
        let info = info.ok_or_else(|| anyhow!("{title} was deleted meanwhile"))?;
        let said = word(&info, before, expires_at);
        let now = Instant::now();
        match &said {
            Word::Connected => {
                let version = info.status.and_then(|status| status.server_version).unwrap_or_default();
                return say(out, format!("{title} connected {version}").trim_end());
            }
            Word::Failing(why) => match &failing {
                Some((since, known)) if known.reason == why.reason => {
                    if now.duration_since(*since) >= SETTLED {
                        bail!("{title} is not connected: {why}");
                    }
                }
                _ => failing = Some((now, why.clone())),
            },
            Word::Silent | Word::Trying(_) => failing = None,
        }
        if now >= until {
            return match said {
                Word::Trying(why) | Word::Failing(why) => {
                    Err(anyhow!("{title} is not connected after {patience:?}: {why}"))
                }
                Word::Silent | Word::Connected => {
                    let note =
                        "no control plane has said anything of it yet; `causeway serve` of the primary will read it";
                    drop(writeln!(io::stderr(), "warning: {title}: {note}"));
                    Ok(())
                }
            };
        }
        tokio::time::sleep(EVERY).await;
    }
}
