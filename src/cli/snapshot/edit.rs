//! `causeway snapshot edit`.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow, bail};

use super::{create, fetch, is_system, pod, title};
use crate::cli::Usage;
use crate::cli::args::EditSnapshot;
use crate::kube::apiserver::{ApiServer, Outcome, Reason};
use crate::kube::kinds::{EndpointSnapshotResource, SnapshotPod};
use crate::kube::manifest::{Manifest, shown_object};

/// How often a change by flags is made anew where somebody else changed the object meanwhile.
const TRIES: u32 = 5;

pub(super) async fn run(args: &EditSnapshot, out: &mut dyn Write) -> anyhow::Result<()> {
    let primary = ApiServer::open(&args.primary.choice()).await?;
    let namespace = args.namespace.as_deref().unwrap_or(&primary.namespace);
    let found = fetch(&primary, namespace, &args.name).await?;
    if is_system(&found) {
        bail!(restored(args, namespace, &found));
    }
    let outcome = match &args.pod {
        Some(name) => {
            let change = change(args, name)?;
            by_flags(&primary, namespace, found, &change).await?
        }
        None => by_editor(&primary, found).await?,
    };
    let word = if outcome == Outcome::Unchanged { "unchanged" } else { "edited" };
    writeln!(out, "{} {word}", title(namespace, &args.name))?;
    Ok(out.flush()?)
}

/// Why an entry of Causeway's own is not edited, and the command that does what was meant.
fn restored(args: &EditSnapshot, namespace: &str, found: &EndpointSnapshotResource) -> anyhow::Error {
    let spec = &found.spec;
    let wanted = SnapshotPod {
        name: args.pod.clone().unwrap_or_else(|| "POD".to_owned()),
        weight: args.weight,
        drain: args.drain.or(if args.weight.is_none() && args.ready.is_none() { Some(true) } else { None }),
        ready: args.ready,
        ..SnapshotPod::default()
    };
    let cluster = spec.cluster.as_ref().map(|cluster| format!(" --cluster {cluster}")).unwrap_or_default();
    let service = spec.service.as_ref().map(|service| format!(" --service {service}")).unwrap_or_default();
    anyhow!(
        "{} is Causeway's own, which restores it; make an entry of your own that weighs or drains its pods: `causeway \
         snapshot create NAME -n {namespace} --access {}{service}{cluster} --pod {}`",
        title(namespace, &args.name),
        spec.access,
        pod::written(&wanted)
    )
}

/// What the flags change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The pod goes.
    Remove(String),
    /// What is said becomes so.
    Set {
        /// The pod.
        name: String,
        weight: Option<u32>,
        drain: Option<bool>,
        ready: Option<bool>,
        /// It is added where it is not there.
        adds: bool,
    },
}

fn change(args: &EditSnapshot, name: &str) -> Result<Change, Usage> {
    if args.remove {
        return Ok(Change::Remove(name.to_owned()));
    }
    if args.weight.is_none() && args.drain.is_none() && args.ready.is_none() && !args.add {
        let flags = "--weight, --drain, --ready, --add or --remove";
        return Err(Usage(format!("--pod {name}: nothing is said to change; give {flags}")));
    }
    let EditSnapshot { weight, drain, ready, .. } = args;
    Ok(Change::Set { name: name.to_owned(), weight: *weight, drain: *drain, ready: *ready, adds: args.add })
}

/// Changes pods.
///
/// # Errors
/// Where there is no such pod.
pub(super) fn apply(change: &Change, pods: &mut Vec<SnapshotPod>) -> Result<(), String> {
    let unknown = |name: &str, pods: &[SnapshotPod]| {
        let names = crate::cli::table::some_of(pods.iter().map(|pod| &pod.name), 5);
        format!("it has no pod `{name}`, but {names}; --add adds one")
    };
    match change {
        Change::Remove(name) => {
            let count = pods.len();
            pods.retain(|pod| pod.name != *name);
            if pods.len() == count { Err(unknown(name, pods)) } else { Ok(()) }
        }
        Change::Set { name, weight, drain, ready, adds } => {
            if !pods.iter().any(|pod| pod.name == *name) {
                if !adds {
                    return Err(unknown(name, pods));
                }
                pods.push(SnapshotPod { name: name.clone(), ..SnapshotPod::default() });
            }
            for pod in pods.iter_mut().filter(|pod| pod.name == *name) {
                pod.weight = weight.or(pod.weight);
                pod.drain = drain.or(pod.drain);
                pod.ready = ready.or(pod.ready);
            }
            Ok(())
        }
    }
}

async fn by_flags(
    primary: &ApiServer,
    namespace: &str,
    mut found: EndpointSnapshotResource,
    change: &Change,
) -> anyhow::Result<Outcome> {
    let name = found.metadata.name.clone().unwrap_or_default();
    let mut tries = 0;
    loop {
        apply(change, &mut found.spec.pods).map_err(|fault| anyhow!("{}: {fault}", title(namespace, &name)))?;
        tries += 1;
        match primary.replace(&Manifest::of_object(&found)?).await {
            Err(error) if error.reason == Reason::Conflict && tries < TRIES => {
                found = fetch(primary, namespace, &name).await?;
            }
            outcome => return Ok(outcome?),
        }
    }
}

const HEAD: &str = "\
# Edit the entry below. Lines that begin with `#` are ignored, and an empty file ends without a change. Where it is not
# accepted, it is opened again with the reason.
#
";

/// Opens an editor on the whole, again and again until it is accepted or left as it was.
async fn by_editor(primary: &ApiServer, found: EndpointSnapshotResource) -> anyhow::Result<Outcome> {
    let mut shown = found.clone();
    shown.status = None;
    let mut text = String::new();
    let body = shown_object(&shown, serde_json::value::Serializer)?;
    write!(text, "{HEAD}{}", serde_yaml_ng::to_string(&body)?)?;
    let file = std::env::temp_dir().join(format!("causeway-snapshot-{}.yaml", std::process::id()));
    let outcome = edit(primary, &found, text, &file).await;
    if outcome.is_ok() {
        drop(std::fs::remove_file(&file));
    }
    outcome
}

async fn edit(
    primary: &ApiServer,
    found: &EndpointSnapshotResource,
    mut text: String,
    file: &Path,
) -> anyhow::Result<Outcome> {
    let mut refusal: Option<String> = None;
    loop {
        write_private(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
        open_editor(file)?;
        let edited = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let is_empty = edited.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
        if edited == text || is_empty {
            return match refusal {
                // The first time, nothing was changed; later, the person gave up.
                None => Ok(Outcome::Unchanged),
                Some(why) => bail!("{why}; what was written is in {}", file.display()),
            };
        }
        let why = match accept(primary, found, &edited).await {
            Ok(outcome) => return Ok(outcome),
            Err(why) => why,
        };
        let lines = edited.lines().skip_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n");
        let told: String = why.lines().fold(String::new(), |told, line| told + "# " + line + "\n");
        text = format!("{HEAD}# It was not accepted:\n{told}#\n{lines}\n");
        refusal = Some(why);
    }
}

/// Sends what was written, unless it makes no sense.
async fn accept(primary: &ApiServer, found: &EndpointSnapshotResource, text: &str) -> Result<Outcome, String> {
    let parsed = create::parse(text).map_err(|error| format!("{error:#}"))?;
    let [snapshot] = parsed.as_slice() else { return Err("it holds more than one EndpointSnapshot".to_owned()) };
    let (was, is) = (&found.metadata, &snapshot.metadata);
    if (&was.name, &was.namespace) != (&is.name, &is.namespace) {
        return Err("metadata.name and metadata.namespace cannot be changed; make another entry".to_owned());
    }
    let manifest = Manifest::of_object(snapshot).map_err(|error| error.to_string())?;
    primary.replace(&manifest).await.map_err(|error| error.to_string())
}

fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())
}

/// Runs the editor as kubectl does, through a shell, since it may have flags.
fn open_editor(file: &Path) -> anyhow::Result<()> {
    let named = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = named("KUBE_EDITOR").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let status = Command::new("sh").args(["-c", &format!("{editor} \"$0\"")]).arg(file).status();
    let status = status.with_context(|| format!("cannot run the editor `{editor}`"))?;
    if !status.success() {
        bail!("the editor `{editor}` ended with {status}; set KUBE_EDITOR to another, or use --pod with flags");
    }
    Ok(())
}
