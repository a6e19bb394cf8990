//! Tokens of service accounts, some of which end soon.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::setup::get;
use crate::support::apiserver::ApiServer;

/// Makes a service account that may read what is read.
pub fn reader_account(server: &ApiServer, name: &str) {
    server.apply(&format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{namespace: shop, name: {name}}}\n---\napiVersion: \
         rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}}}\nrules:\n- {{apiGroups: [\"\"], resources: \
         [namespaces, services, pods, nodes], verbs: [get, list, watch]}}\n- {{apiGroups: [discovery.k8s.io], resources: \
         [endpointslices], verbs: [get, list, watch]}}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: \
         ClusterRoleBinding\nmetadata: {{name: {name}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: \
         {name}}}\nsubjects: [{{kind: ServiceAccount, namespace: shop, name: {name}}}]\n"
    ));
}

/// The account and a token of it.
pub fn reader_token(server: &ApiServer, name: &str) -> String {
    reader_account(server, name);
    server.kubectl(&["-n", "shop", "create", "token", name]).trim().to_owned()
}

/// How long after its end an API server still takes a token.
const LEEWAY_S: u64 = 60;

/// The account and a token of it that is no more accepted after `lifetime`, and when that is. An API server gives none
/// that end within ten minutes, but takes them from whoever has its signing key.
pub fn token_until(server: &ApiServer, name: &str, lifetime: Duration) -> (String, Instant) {
    reader_account(server, name);
    let uid = get(server, "serviceaccount", name).expect("it was made")["metadata"]["uid"].clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let ends = Instant::now() + lifetime;
    let claims = json!({
        "iss": server.issuer(), "aud": [server.issuer()], "iat": now - 2 * LEEWAY_S, "nbf": now - 2 * LEEWAY_S,
        "exp": now + lifetime.as_secs() - LEEWAY_S,
        "sub": format!("system:serviceaccount:shop:{name}"),
        "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": name, "uid": uid}},
    });
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", encode(br#"{"alg":"RS256"}"#), encode(claims.to_string().as_bytes()));
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(server.signing_key())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    openssl.stdin.take().expect("piped").write_all(text.as_bytes()).expect("openssl reads");
    let signature = openssl.wait_with_output().expect("openssl signs").stdout;
    (format!("{text}.{}", encode(&signature)), ends)
}

/// Waits for the time.
pub async fn ended_at(ends: Instant) {
    tokio::time::sleep_until(ends.into()).await;
}
