//! Logs: one subscriber for the process, on standard error, so that standard output stays a
//! command's own.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// What is logged when `RUST_LOG` is not set. hickory would log each DNS query, and kube each request that fails, which
/// the cluster manager tells of once.
pub const DEFAULT_FILTER: &str = "info,hickory_server=warn,kube_client=off,kube_runtime=off";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `RUST_LOG` cannot be read.
    #[error("RUST_LOG=`{text}` is not a log filter: {source}; write for example RUST_LOG=info,causeway::ads=debug")]
    Filter {
        /// The variable's value.
        text: String,
        /// What the parser says.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A subscriber was there already.
    #[error("logging is set up already")]
    Installed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Installs the process's subscriber.
///
/// `RUST_LOG` chooses what is logged, [`DEFAULT_FILTER`] where it is unset or empty. A filter that
/// cannot be read is an error rather than silence: it was set by someone who wanted to see something.
pub fn init(format: LogFormat) -> Result<(), Error> {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            // https://no-color.org: any non-empty value turns colours off.
            let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
            builder.with_ansi(!plain && std::io::stderr().is_terminal()).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    }
    .map_err(Error::Installed)
}

fn filter(text: Option<&str>) -> Result<EnvFilter, Error> {
    let text = text.map(str::trim).filter(|t| !t.is_empty()).unwrap_or(DEFAULT_FILTER);
    EnvFilter::builder().parse(text).map_err(|source| Error::Filter { text: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_and_empty_filters_mean_the_default() {
        for text in [None, Some(""), Some("  ")] {
            let shown = filter(text).unwrap().to_string();
            assert!(DEFAULT_FILTER.split(',').all(|part| shown.contains(part)), "{text:?}: {shown}");
        }
        assert!(filter(Some("info,causeway::ads=debug")).unwrap().to_string().contains("causeway::ads=debug"));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error_naming_it() {
        let error = filter(Some("causeway=loud")).unwrap_err().to_string();
        assert!(error.contains("RUST_LOG=`causeway=loud`"), "{error}");
    }
}
