//! `causeway policy upload`.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Context;
use hyper::Method;

use super::{path_of, tell};
use crate::admin::policies::SIGNATURE;
use crate::cli::Usage;
use crate::cli::args::{Fallback, UploadPolicy};
use crate::cli::client::{Admin, encode_segment};
use crate::cli::http::Asked;
use crate::policy::{LoadError, MOST_BYTES};

pub(super) async fn run(args: &UploadPolicy, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(config) = &args.config {
        serde_json::from_str::<serde_json::Value>(config)
            .map_err(|error| Usage(format!("--config `{config}` is no JSON: {error}")))?;
    }
    let admin = Admin::new(&args.server())?;
    let bytes = read(&args.file)?;
    let path = format!("{}{}", path_of(&args.name), query(args));
    let mut headers = Vec::new();
    if let Some(file) = &args.signature {
        let signature = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        headers.push((SIGNATURE, signature.split_whitespace().collect()));
    }
    let asked = Asked { method: Method::PUT, path: &path, headers, body: bytes.into() };
    tell(&admin.ask(&asked).await?, args.output, out)
}

fn query(args: &UploadPolicy) -> String {
    let fallback = args.on_failure.map(|fallback| match fallback {
        Fallback::KeepLast => "KeepLast".to_owned(),
        Fallback::Default => "Default".to_owned(),
    });
    let said = [
        ("activate", args.no_activate.then(|| "false".to_owned())),
        ("world", args.world.map(|world| world.to_string())),
        ("config", args.config.clone()),
        ("fuel", args.fuel.map(|fuel| fuel.to_string())),
        ("memoryMiB", args.memory_mib.map(|memory| memory.to_string())),
        ("maxRemovedPercent", args.max_removed_percent.map(|percent| percent.to_string())),
        ("onFailure", fallback),
    ];
    let said: Vec<String> =
        said.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", encode_segment(&value?)))).collect();
    if said.is_empty() { String::new() } else { format!("?{}", said.join("&")) }
}

/// Reads the component, and no more of a file than can be one.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = file.display();
    let mut bytes = Vec::new();
    let most = MOST_BYTES as u64 + 1;
    if file == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        let file = std::fs::File::open(file).with_context(|| format!("cannot read {shown}"))?;
        let size = file.metadata().with_context(|| format!("cannot read {shown}"))?.len();
        if size > MOST_BYTES as u64 {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            return Err(LoadError::TooLarge { size, most: MOST_BYTES }).with_context(|| format!("{shown} is refused"));
        }
        file.take(most).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    }
    Ok(bytes)
}
