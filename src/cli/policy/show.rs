//! `causeway policy show`.

use std::collections::BTreeMap;
use std::io::Write;

use super::{document, path_of, short, time};
use crate::admin::policies::{PolicyDetail, VersionView};
use crate::cli::args::ShowPolicy;
use crate::cli::client::Admin;
use crate::cli::table::{Layout, shown, some_of};
use crate::reconcile::view::Condition;

/// Accesses that are named.
const MOST_NAMES: usize = 10;

pub(super) async fn run(args: &ShowPolicy, out: &mut dyn Write) -> anyhow::Result<()> {
    let detail: PolicyDetail = Admin::new(&args.server)?.get(&path_of(&args.name)).await?;
    if let Some(format) = args.output {
        return document(&detail, format, out);
    }
    out.write_all(summary(&detail).as_bytes())?;
    if !detail.versions.is_empty() {
        writeln!(out, "\nVersions:")?;
        let mut rows = vec![head()];
        rows.extend(detail.versions.iter().map(|version| row(&detail, version)));
        Layout::default().print(&rows, out)?;
    }
    Ok(out.flush()?)
}

fn summary(detail: &PolicyDetail) -> String {
    let policy = &detail.policy;
    let calls = &policy.calls;
    let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    let last = calls.last_failure.as_ref().map(|last| format!("{} {}", time(last.at), last.message));
    let not_asked = match calls.circuits_open {
        0 => String::new(),
        open => format!("about {open} of what it decides on, for having failed three times in a row"),
    };
    let lines = [
        ("Name", policy.name.clone()),
        ("World", policy.world.clone()),
        ("Source", format!("{:?}", policy.source)),
        ("State", format!("{:?}", policy.state)),
        ("Message", policy.message.clone()),
        ("Digest", policy.digest.clone()),
        ("Version", number(policy.version)),
        ("Before", number(detail.before)),
        ("Calls", calls.calls.to_string()),
        ("Memo hits", calls.memo_hits.to_string()),
        ("Failures", by_reason(&calls.failures)),
        ("Last", last.unwrap_or_default()),
        ("Fallbacks", by_reason(&calls.fallbacks)),
        ("Not asked", not_asked),
        ("Fuel used", calls.fuel_used.to_string()),
        ("Used by", some_of(&detail.used_by, MOST_NAMES)),
    ];
    let conditions = detail.conditions.iter().map(|condition| {
        let Condition { kind, status, reason, message, .. } = condition;
        let said = if message.is_empty() { String::new() } else { format!(": {message}") };
        (kind.as_str(), format!("{status} {reason}{said}"))
    });
    let mut page = String::new();
    for (head, value) in lines.into_iter().chain(conditions).filter(|(_, value)| !value.is_empty()) {
        page.push_str(&format!("{:<12}{}\n", format!("{head}:"), shown(&value)));
    }
    page
}

/// A sum, and what it is made of.
fn by_reason(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "0".to_owned();
    }
    let parts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!("{} ({})", counts.values().sum::<u64>(), parts.join(", "))
}

fn head() -> Vec<String> {
    [
        "NUMBER",
        "DIGEST",
        "SIZE",
        "SOURCE",
        "SIGNED-BY",
        "UPLOADED",
        "FUEL",
        "MEMORY",
        "MAX-REMOVED",
        "ON-FAILURE",
        "CONFIG",
        "STATE",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn row(detail: &PolicyDetail, version: &VersionView) -> Vec<String> {
    let state = match Some(version.number) {
        number if number == detail.policy.version => format!("{:?}", detail.policy.state),
        number if number == detail.before => "Before".to_owned(),
        _ => "-".to_owned(),
    };
    vec![
        version.number.to_string(),
        short(&version.digest),
        version.size.to_string(),
        version.source.clone(),
        version.signed_by.clone().unwrap_or_else(|| "-".to_owned()),
        time(version.uploaded_at),
        version.fuel.to_string(),
        format!("{}Mi", version.memory_mib),
        format!("{}%", version.max_removed_percent),
        format!("{:?}", version.on_failure),
        if version.config.is_null() { "-".to_owned() } else { version.config.to_string() },
        state,
    ]
}
