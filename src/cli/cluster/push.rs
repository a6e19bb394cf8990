//! `causeway cluster join --push`: the cluster's own manager dials in.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::join::{apply, namespace};
use super::say;
use crate::cli::args;
use crate::kube::apiserver::{ApiServer, MANAGER};
use crate::kube::documents::documents;
use crate::kube::join::{Join, MADE_BY, Place as KubeconfigPlace, member_secret, objection, of_sub_cluster};
use crate::kube::kinds::ClusterInfoResource;
use crate::kube::manifest::Manifest;
use crate::kube::rbac;
use crate::member::MemberFile;
use crate::member::authority::{Authority, Credential, Place};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Lets a cluster join whose manager dials in, or gives that a new certificate.
pub(super) async fn run(args: &args::Join, join: &Join, out: &mut dyn Write) -> anyhow::Result<()> {
    let sub_namespace = args.namespace.as_deref().unwrap_or(rbac::NAMESPACE);
    if args.dry_run {
        let of_sub = documents(&of_sub(join, sub_namespace, "<file with a key>")?)?;
        write!(
            out,
            "# On the sub-cluster:\n{of_sub}---\n# On the primary:\n{}",
            documents(&[join.pushed_info(None)])?
        )?;
        return Ok(out.flush()?);
    }
    let primary = ApiServer::open(&args.primary.choice()).await?;
    let infos = primary.list::<ClusterInfoResource>(None).await?;
    let sub = match args.sub.is_named() {
        true => Some(ApiServer::open(&args.sub.choice(args.primary.request_timeout)).await?),
        false => None,
    };
    if let Some(sub) = &sub {
        let (sub_uid, primary_uid) = (sub.uid().await?, primary.uid().await?);
        if let Some(why) = objection(&join.name, &sub_uid, &primary_uid, &infos).filter(|_| !args.force) {
            bail!("{why}; --force joins all the same");
        }
    }
    let objects = of_sub(join, sub_namespace, &file(&args.member, &join.name)?)?;
    match (&sub, &args.member.out) {
        (Some(sub), _) => {
            say(out, &format!("On {}:", sub.shown()))?;
            namespace(sub, sub_namespace, out).await?;
            // The namespace is somebody's where it was there.
            for manifest in objects.iter().skip(1) {
                apply(sub, manifest, out).await?;
            }
        }
        (None, Some(path)) => {
            write_secret(path, &documents(&objects)?)?;
            say(out, &format!("{} written, to be applied in {}; it holds a key", path.display(), join.name))?;
        }
        // Printed at the end, with all else in comments, so that it can be piped on.
        (None, None) => {}
    }
    let mark = if sub.is_none() && args.member.out.is_none() { "# " } else { "" };
    let before = infos.into_iter().find(|info| info.metadata.name.as_deref() == Some(&join.name));
    let info = join.pushed_info(before.as_ref());
    let outcome = primary.apply(&info).await?;
    say(out, &format!("{mark}On {}:\n{mark}{} {outcome}", primary.shown(), info.title()))?;
    if let Some(old) = before.as_ref().and_then(|info| KubeconfigPlace::of(&info.spec)) {
        if mark.is_empty() {
            super::leave::kubeconfig(&primary, &join.name, &old, out).await?;
        } else {
            super::leave::kubeconfig(&primary, &join.name, &old, &mut std::io::stderr()).await?;
        }
    }
    if !mark.is_empty() {
        write!(out, "{}", documents(&objects)?)?;
    }
    Ok(out.flush()?)
}

/// What there is in the sub-cluster: the rights of its member, and what that is given.
fn of_sub(join: &Join, sub_namespace: &str, file: &str) -> anyhow::Result<Vec<Manifest>> {
    let mut objects = vec![rbac::namespace(sub_namespace).labelled(MADE_BY, MANAGER)];
    objects.extend(of_sub_cluster(sub_namespace)?);
    objects.push(member_secret(&join.name, sub_namespace, file));
    Ok(objects)
}

/// The file of a new certificate.
fn file(args: &args::MemberOf, cluster: &str) -> anyhow::Result<String> {
    let place = match (&args.member_ca_cert, &args.member_ca_key) {
        (Some(cert), Some(key)) => Place::Files { cert: cert.clone(), key: key.clone() },
        _ => Place::DataDir(args.data_dir.clone()),
    };
    let authority = Authority::open(&place, &args.trust_domain).context("the authority of members")?;
    let Credential { cert, key } = authority.member(cluster, DAY * args.valid_days)?;
    Ok(serde_yaml_ng::to_string(&MemberFile {
        primary: args.primary_address.clone().unwrap_or_default(),
        trust_domain: args.trust_domain.clone(),
        ca: authority.pem().to_owned(),
        cert,
        key,
    })?)
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    // Another file takes the place of the old one, whose rights may be wider.
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .with_context(|| format!("writing {}", draft.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", draft.display()))?;
    std::fs::rename(&draft, path).with_context(|| format!("writing {}", path.display()))
}
