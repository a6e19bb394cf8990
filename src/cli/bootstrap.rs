//! `causeway bootstrap`: an Envoy bootstrap that fits this control plane.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::bail;
use hyper::http::uri::Authority;

use super::Usage;
use super::args::{Bootstrap, Protocol, Role};

/// The name of the static cluster that leads to the control plane.
const XDS_CLUSTER: &str = "causeway-xds";

/// Metadata keys that have flags of their own.
const OWN_KEYS: [&str; 3] = ["role", "cluster", "network"];

/// Prints the bootstrap.
pub(super) fn run(args: &Bootstrap, out: &mut dyn Write) -> anyhow::Result<()> {
    let text = render(args)?;
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

pub(super) fn render(args: &Bootstrap) -> anyhow::Result<String> {
    let required = [("node-id", &args.node_id), ("cluster", &args.cluster), ("network", &args.network)];
    if let Some((flag, _)) = required.iter().find(|(_, value)| value.trim().is_empty()) {
        bail!(Usage(format!("--{flag} is empty")));
    }
    let role = match args.role {
        Role::Gateway => "gateway",
        Role::Sidecar => "sidecar",
    };
    let mut metadata = vec![("role", role), ("cluster", args.cluster.as_str()), ("network", args.network.as_str())];
    for label in &args.label {
        match label.split_once('=') {
            Some((key, _)) if OWN_KEYS.contains(&key) => bail!(Usage(format!("--label {label}: use --{key}"))),
            Some((key, _)) if metadata.iter().any(|(there, _)| *there == key) => {
                bail!(Usage(format!("--label {key} is given twice")))
            }
            Some((key, value)) if !key.is_empty() => metadata.push((key, value)),
            _ => bail!(Usage(format!("--label {label}: write it as KEY=VALUE"))),
        }
    }
    let admin: SocketAddr = args.envoy_admin.parse().map_err(|_| {
        Usage(format!("--envoy-admin `{}` is not an IP address and a port, such as 127.0.0.1:9901", args.envoy_admin))
    })?;
    let endpoints = args.xds.iter().map(|text| Endpoint::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let named = endpoints.iter().any(|e| matches!(e, Endpoint::Name { .. }));
    if named && endpoints.iter().any(|e| matches!(e, Endpoint::Unix(_))) {
        bail!(Usage("--xds: Envoy cannot look up names in a cluster that has a unix: path as well".to_owned()));
    }
    Ok([
        node(args, role, &metadata),
        admin_and_overload(admin),
        dynamic(args.protocol),
        load_reports(),
        xds_cluster(&endpoints, if named { "STRICT_DNS" } else { "STATIC" }),
    ]
    .concat())
}

/// A scalar in JSON's double quotes, which YAML reads the same.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn node(args: &Bootstrap, role: &str, metadata: &[(&str, &str)]) -> String {
    let mut text = format!("node:\n  id: {}\n  cluster: {}\n", quoted(&args.node_id), quoted(role));
    let locality: Vec<String> = [("region", &args.region), ("zone", &args.zone)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("    {key}: {}\n", quoted(value)))
        .collect();
    if !locality.is_empty() {
        text.push_str("  locality:\n");
        text.push_str(&locality.concat());
    }
    text.push_str("  metadata:\n");
    for (key, value) in metadata {
        text.push_str(&format!("    {}: {}\n", quoted(key), quoted(value)));
    }
    text
}

fn socket(address: &str, port: u16) -> String {
    format!("socket_address: {{address: {}, port_value: {port}}}", quoted(address))
}

fn admin_and_overload(admin: SocketAddr) -> String {
    format!(
        r#"admin:
  # Whoever reaches this address can stop the Envoy and read its configuration.
  address: {{{admin}}}
  # The agent and people get in when traffic has used up the connections below.
  ignore_global_conn_limit: true
layered_runtime:
  layers:
  - name: static
    static_layer:
      # HTTP/2 rapid reset (CVE-2023-44487): one client's burst of requests waits for its turn, and a
      # connection whose requests are mostly taken back at once is closed.
      http.max_requests_per_io_cycle: 1
      overload.premature_reset_total_stream_count: 500
  - name: admin
    admin_layer: {{}}
overload_manager:
  refresh_interval: 0.25s
  resource_monitors:
  # Without a bound, a flood of connections ends in a lack of file descriptors, and then in no xDS.
  - name: envoy.resource_monitors.global_downstream_max_connections
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
      max_active_downstream_connections: 50000
"#,
        admin = socket(&admin.ip().to_string(), admin.port()),
    )
}

fn dynamic(protocol: Protocol) -> String {
    let api_type = match protocol {
        Protocol::Delta => "DELTA_GRPC",
        Protocol::Sotw => "GRPC",
    };
    format!(
        r#"dynamic_resources:
  ads_config:
    api_type: {api_type}
    transport_api_version: V3
    # The node is bound to the stream by its first message, so the others need not repeat it.
    set_node_on_first_message_only: true
    grpc_services:
    - envoy_grpc: {{cluster_name: {XDS_CLUSTER}}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
"#
    )
}

/// To where the Envoy tells of the requests that it sends. The control plane says how often, and whether at all.
fn load_reports() -> String {
    format!(
        r#"cluster_manager:
  load_stats_config:
    api_type: GRPC
    transport_api_version: V3
    grpc_services:
    - envoy_grpc: {{cluster_name: {XDS_CLUSTER}}}
"#
    )
}

/// Where the control plane is.
enum Endpoint {
    Address(SocketAddr),
    Name { host: String, port: u16 },
    Unix(String),
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, Usage> {
        let wrong = |why: &str| Usage(format!("--xds `{text}`: {why}; write HOST:PORT or unix:/path"));
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(wrong("the path is missing"))
            } else {
                Ok(Endpoint::Unix(path.to_owned()))
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Endpoint::Address(address));
        }
        if text.contains("//") {
            return Err(wrong("is a URL"));
        }
        let authority: Authority = text.parse().map_err(|_| wrong("is not an address"))?;
        let port = authority.port_u16().ok_or_else(|| wrong("the port is missing"))?;
        let host = authority.host().to_owned();
        if host.is_empty() || text.contains('@') {
            return Err(wrong("the host is missing"));
        }
        Ok(Endpoint::Name { host, port })
    }

    fn yaml(&self) -> String {
        match self {
            Endpoint::Address(address) => socket(&address.ip().to_string(), address.port()),
            Endpoint::Name { host, port } => socket(host, *port),
            Endpoint::Unix(path) => format!("pipe: {{path: {}}}", quoted(path)),
        }
    }
}

fn xds_cluster(endpoints: &[Endpoint], discovery: &str) -> String {
    let mut text = format!(
        r#"static_resources:
  clusters:
  - name: {XDS_CLUSTER}
    type: {discovery}
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options:
            # An idle stream whose other end vanished without a word is noticed by this alone.
            connection_keepalive: {{interval: 30s, timeout: 5s}}
    load_assignment:
      cluster_name: {XDS_CLUSTER}
      endpoints:
      - lb_endpoints:
"#
    );
    for endpoint in endpoints {
        text.push_str(&format!("        - endpoint: {{address: {{{}}}}}\n", endpoint.yaml()));
    }
    text
}
