//! Before an Envoy ends: it says that it drains, the agent passes that on, and the names are no longer answered with its
//! VIPs while it goes on to serve.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::addresses::chain;
use super::{AdminAddress, Error, http};

/// How often is looked whether the Envoy has ended by itself.
const LOOK: Duration = Duration::from_millis(250);

/// Flags of `causeway drain`.
#[derive(Clone, Debug, clap::Args)]
pub struct DrainOptions {
    /// Envoy's admin interface: ADDRESS:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    pub envoy_admin: AdminAddress,

    /// How long to wait, while the names' TTL passes and requests in flight end
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = crate::config::parse_duration)]
    pub duration: Duration,
}

/// Has the Envoy fail its health checks, and waits so long as was asked, or until the Envoy is gone. The agent has to stand
/// beside it meanwhile: where none does, the Envoy's ACKs are all the proof that is asked for.
///
/// # Errors
/// When the Envoy cannot be told.
pub async fn drain(options: &DrainOptions) -> Result<(), Error> {
    let until = Instant::now() + options.duration;
    http::fail_health_checks(&options.envoy_admin)
        .await
        .map_err(|error| Error::Drain { admin: options.envoy_admin.to_string(), reason: chain(&error) })?;
    let gone = async {
        while http::may_be_there(&options.envoy_admin).await {
            sleep(LOOK).await;
        }
    };
    // Whichever comes first is as good.
    drop(timeout_at(until, gone).await);
    Ok(())
}
