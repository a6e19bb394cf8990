//! `causeway policy`: policies are uploaded, put into force and taken back while everything runs.

mod new;
mod show;
mod upload;

use std::io::Write;

use hyper::Method;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::args::{ActivatePolicy, DeletePolicy, Format, Policy, PolicyLogs, RollBackPolicy, Server};
use super::client::{Admin, encode_segment};
use super::http::Asked;
use super::list;
use super::rows;
use super::table::shown;
use crate::admin::policies::{Outcome, PolicyChanged};
use crate::reconcile::view::PolicyLine;

pub(super) async fn run(command: Policy, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Policy::New(args) => new::run(&args, out),
        Policy::Upload(args) => upload::run(&args, out).await,
        Policy::List(args) => list::run::<rows::Policy>(&args.query(), out).await,
        Policy::Show(args) => show::run(&args, out).await,
        Policy::Activate(args) => activate(&args, out).await,
        Policy::Rollback(args) => roll_back(&args, out).await,
        Policy::Delete(args) => delete(&args, out).await,
        Policy::Logs(args) => logs(&args, out).await,
    }
}

fn path_of(name: &str) -> String {
    format!("/api/v1/policies/{}", encode_segment(name))
}

async fn change(server: &Server, path: &str, output: Option<Format>, out: &mut dyn Write) -> anyhow::Result<()> {
    let asked = Asked::of(Method::POST, path);
    tell(&Admin::new(server)?.ask(&asked).await?, output, out)
}

async fn activate(args: &ActivatePolicy, out: &mut dyn Write) -> anyhow::Result<()> {
    // No digest has a `v` in it.
    let number = args.version.strip_prefix('v').filter(|rest| rest.parse::<u32>().is_ok());
    let which = match number {
        Some(number) => format!("version={number}"),
        None => format!("digest={}", encode_segment(&args.version)),
    };
    change(&args.server, &format!("{}/activate?{which}", path_of(&args.name)), args.output, out).await
}

async fn roll_back(args: &RollBackPolicy, out: &mut dyn Write) -> anyhow::Result<()> {
    change(&args.server, &format!("{}/rollback", path_of(&args.name)), args.output, out).await
}

async fn delete(args: &DeletePolicy, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = path_of(&args.name) + if args.force { "?force=true" } else { "" };
    let asked = Asked::of(Method::DELETE, &path);
    let _: Value = Admin::new(&args.server)?.ask(&asked).await?;
    writeln!(out, "policy/{} deleted", args.name)?;
    Ok(out.flush()?)
}

async fn logs(args: &PolicyLogs, out: &mut dyn Write) -> anyhow::Result<()> {
    let lines: Vec<PolicyLine> = Admin::new(&args.server)?.get(&format!("{}/logs", path_of(&args.name))).await?;
    if let Some(format) = args.output {
        return document(&lines, format, out);
    }
    for line in &lines {
        let level = line.level.to_ascii_uppercase();
        writeln!(out, "{} {level:5} {}", time(line.at), shown(&line.text))?;
    }
    Ok(out.flush()?)
}

/// Says what was done, as kubectl does.
fn tell(changed: &PolicyChanged, output: Option<Format>, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(format) = output {
        return document(changed, format, out);
    }
    let PolicyChanged { outcome, version, policy } = changed;
    let (name, number, digest) = (&policy.name, version.number, short(&version.digest));
    match outcome {
        Outcome::Activated => writeln!(out, "policy/{name} activated: version {number} ({digest}) is in force")?,
        Outcome::Kept => {
            writeln!(
                out,
                "policy/{name} uploaded: `causeway policy activate {name} {digest}` puts version {number} into force"
            )?;
        }
        Outcome::Unchanged => writeln!(out, "policy/{name} unchanged: it has version {number} ({digest}) already")?,
    }
    Ok(out.flush()?)
}

fn document(value: &impl Serialize, format: Format, out: &mut dyn Write) -> anyhow::Result<()> {
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(value)?)?,
        Format::Yaml => write!(out, "{}", serde_yaml_ng::to_string(value)?)?,
    }
    Ok(out.flush()?)
}

/// As much of a digest as people tell versions apart by.
pub(super) fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

/// A time, in the form of logs; nothing where it is not known.
fn time(at_ms: i64) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(time) if at_ms != 0 => time.to_string(),
        _ => "-".to_owned(),
    }
}
