//! What sets endpoints aside: how requests to them end, and how they answer when they are asked.

use xds_api::pb::envoy::config::cluster::v3::OutlierDetection;
use xds_api::pb::envoy::config::core::v3::{HealthCheck, health_check as parts};
use xds_api::pb::envoy::r#type::v3::{CodecClientType, Int64Range};

use super::milliseconds;
use crate::model::decision::{self, LbDecision};
use crate::model::object::Protocol;

/// Where no policy says otherwise, for how long an endpoint is set aside at first, and how often it is looked whether it
/// may come back.
const EJECTION_MS: u32 = 1000;

/// An endpoint that is set aside again and again stays so for this many times as long at most, as by Envoy's defaults.
const LONGEST_EJECTION: u32 = 10;

/// An endpoint that cannot be connected to has no load, so least request sends it more and more,
/// and TCP, where Envoy may pick the same one again, loses connections for as long as the endpoint
/// is listed. Three failures in a row set it aside, for a second at first (it may just be
/// starting), for ten when it stays so. What an endpoint answers plays no part, unless the decision
/// says how many 5xx are too many.
///
/// All endpoints may be set aside where Envoy then ignores health and tries them all the same;
/// where it never does so, half of them stay. A decision that judges answers says so itself.
pub(super) fn outlier_detection(decision: &LbDecision) -> OutlierDetection {
    let most = if decision.panic_threshold_percent == 0 { 50 } else { 100 };
    let base = decision::OutlierDetection {
        consecutive_5xx: 0,
        interval_ms: EJECTION_MS,
        base_ejection_ms: EJECTION_MS,
        max_ejection_percent: most,
    };
    let wanted = decision.outlier_detection.unwrap_or(base);
    let counts_5xx = wanted.consecutive_5xx > 0;
    OutlierDetection {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: Some(3.into()),
        enforcing_consecutive_local_origin_failure: Some(100.into()),
        enforcing_local_origin_success_rate: Some(0.into()),
        consecutive_5xx: counts_5xx.then(|| wanted.consecutive_5xx.into()),
        enforcing_consecutive_5xx: Some(if counts_5xx { 100 } else { 0 }.into()),
        enforcing_success_rate: Some(0.into()),
        interval: Some(milliseconds(wanted.interval_ms)),
        base_ejection_time: Some(milliseconds(wanted.base_ejection_ms)),
        max_ejection_time: Some(milliseconds(wanted.base_ejection_ms.saturating_mul(LONGEST_EJECTION))),
        max_ejection_percent: Some(wanted.max_ejection_percent.into()),
        // An endpoint that answers checks well and requests with 5xx would come back with the next check.
        successful_active_health_check_uneject_host: decision.health_check.is_some().then(|| false.into()),
        ..Default::default()
    }
}

/// Envoy's own questions to each endpoint. None gets requests before it was found healthy for the first time.
///
/// A cluster that is new to an Envoy is used once as many checks have ended as it has endpoints (of any of them, as seen
/// on Envoy 1.40, so that one that is silent keeps nobody waiting). Until then an Envoy that starts opens no listener, and
/// a changed cluster serves in its old form. Where no endpoint answers, that takes as long as the timeout.
pub(super) fn check(check: &decision::HealthCheck, protocol: Protocol, hostname: &str) -> HealthCheck {
    let checker = match &check.path {
        Some(path) => parts::HealthChecker::HttpHealthCheck(http_check(path, protocol, hostname)),
        None => parts::HealthChecker::TcpHealthCheck(parts::TcpHealthCheck::default()),
    };
    let interval = Some(milliseconds(check.interval_ms));
    HealthCheck {
        timeout: Some(milliseconds(check.timeout_ms)),
        interval,
        // Envoy asks the endpoints of a cluster that had no request yet every 60 s only.
        no_traffic_interval: interval,
        unhealthy_threshold: Some(check.unhealthy_threshold.into()),
        healthy_threshold: Some(check.healthy_threshold.into()),
        health_checker: Some(checker),
        ..Default::default()
    }
}

fn http_check(path: &str, protocol: Protocol, hostname: &str) -> parts::HttpHealthCheck {
    let codec = match protocol {
        Protocol::H2c | Protocol::Grpc => CodecClientType::Http2,
        Protocol::Http | Protocol::Tcp => CodecClientType::Http1,
    };
    parts::HttpHealthCheck {
        // Envoy would ask for the cluster's name, whose slashes servers refuse in a host name.
        host: hostname.to_owned(),
        path: path.to_owned(),
        codec_client_type: codec as i32,
        // Any status but 200 would make an endpoint unhealthy at once, without regard to the threshold.
        retriable_statuses: vec![Int64Range { start: 100, end: 600 }],
        ..Default::default()
    }
}
