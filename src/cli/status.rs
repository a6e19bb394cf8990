//! `causeway status` and `causeway xds`.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use super::args::{Format, Status, Xds};
use super::client::{Admin, encode_segment};
use super::table::shown;
use crate::reconcile::view::{Problem, StatusView};

/// Prints the whole at a glance, once or for as long as it is watched.
pub(super) async fn run(args: &Status, out: &mut dyn Write) -> anyhow::Result<()> {
    let admin = Admin::new(&args.server)?;
    let printed = render(&admin.get(STATUS).await?, args.output)?;
    out.write_all(printed.as_bytes())?;
    out.flush()?;
    if args.watch { watch(&admin, args.output, printed, out).await } else { Ok(()) }
}

/// Prints again what changed. A server that goes away is told once and waited for.
async fn watch(admin: &Admin, output: Option<Format>, mut printed: String, out: &mut dyn Write) -> anyhow::Result<()> {
    let separator = if output == Some(Format::Json) { "" } else { "---\n" };
    let mut lost = false;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = match admin.get(STATUS).await {
            Ok(view) => render(&view, output)?,
            Err(error) => {
                if !std::mem::replace(&mut lost, true) {
                    drop(writeln!(io::stderr(), "waiting: {error:#}"));
                }
                continue;
            }
        };
        lost = false;
        if now != printed {
            write!(out, "{separator}{now}")?;
            out.flush()?;
            printed = now;
        }
    }
}

const STATUS: &str = "/api/v1/status";

fn render(view: &StatusView, output: Option<Format>) -> anyhow::Result<String> {
    match output {
        Some(format) => document(&serde_json::to_value(view)?, format),
        None => Ok(text(view)),
    }
}

fn document(value: &Value, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(value)? + "\n",
        Format::Yaml => serde_yaml_ng::to_string(value)?,
    })
}

pub(super) fn text(view: &StatusView) -> String {
    let ready = match (view.ready, view.waiting_for.as_slice()) {
        (true, _) => "yes".to_owned(),
        (false, []) => "no".to_owned(),
        (false, waiting) => format!("no, waiting for {}", waiting.join("; ")),
    };
    let total: usize = view.vips.values().sum();
    let by_state: Vec<String> =
        view.vips.iter().filter(|(_, count)| **count > 0).map(|(state, count)| format!("{count} {state}")).collect();
    let vips = if by_state.is_empty() { total.to_string() } else { format!("{total} ({})", by_state.join(", ")) };
    let lines = [
        ("Version", view.version.clone()),
        ("Ready", ready),
        ("Clusters", view.clusters.to_string()),
        ("Services", view.services.to_string()),
        ("Endpoints", view.endpoints.to_string()),
        ("Pods", view.pods.to_string()),
        ("Accesses", view.accesses.to_string()),
        ("VIPs", vips),
        ("Nodes", view.nodes.to_string()),
    ];
    let mut page = String::new();
    for (head, value) in lines {
        page.push_str(&format!("{:<12}{}\n", format!("{head}:"), shown(&value)));
    }
    if !view.problems.is_empty() {
        page.push_str(&format!("\nProblems ({}):\n", view.problems.len()));
        view.problems.iter().for_each(|p| page.push_str(&problem(p)));
    }
    page
}

/// A problem: where it is on the first line, as `file:line` that editors and terminals can open.
fn problem(p: &Problem) -> String {
    let file = match (&p.file, p.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.clone(),
        (None, _) => String::new(),
    };
    let parts = [&p.cluster, &file, &p.object, &p.field];
    let place: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).map(|part| shown(part)).collect();
    let mut text = String::new();
    if !place.is_empty() {
        text.push_str(&format!("  {}\n", place.join("  ")));
    }
    let indent = if place.is_empty() { "  " } else { "    " };
    text.push_str(&format!("{indent}{}\n", shown(&p.message)));
    if !p.remedy.is_empty() {
        text.push_str(&format!("{indent}-> {}\n", shown(&p.remedy)));
    }
    text
}

/// Prints a node's xDS state, or which nodes there are.
pub(super) async fn xds(args: &Xds, out: &mut dyn Write) -> anyhow::Result<()> {
    let admin = Admin::new(&args.server)?;
    let mut path = "/debug/xds/nodes".to_owned();
    if let Some(node) = &args.node {
        path = format!("{path}/{}", encode_segment(node));
    }
    if let Some(resource) = &args.resource {
        path = format!("{path}?resource={}", encode_segment(resource));
    }
    let value: Value = admin.get(&path).await?;
    out.write_all(document(&value, args.output)?.as_bytes())?;
    Ok(out.flush()?)
}
