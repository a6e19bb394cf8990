//! The definitions of the Multi-Cluster Services API, as far as its fields matter here: all versions have the same.

use crate::support::apiserver::ApiServer;
use crate::support::eventually;

/// Both versions, as a cluster of today has them.
pub const VERSIONS: &[&str] = &["v1alpha1", "v1beta1"];

const CONDITIONS: &str = "{type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [type], items: {type: object, \
     required: [type, status, reason, message, lastTransitionTime], properties: {type: {type: string}, status: {type: string}, reason: \
     {type: string, pattern: '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$'}, message: {type: string}, lastTransitionTime: {type: string, \
     format: date-time}, observedGeneration: {type: integer, format: int64}}}}";

fn export_schema() -> String {
    let map = "{type: object, additionalProperties: {type: string}}";
    format!(
        "{{type: object, properties: {{spec: {{type: object, properties: {{exportedLabels: {map}, exportedAnnotations: {map}}}}}, \
         status: {{type: object, properties: {{conditions: {CONDITIONS}}}}}}}}}"
    )
}

fn import_schema() -> String {
    let port = "{type: object, required: [port], properties: {name: {type: string}, protocol: {type: string}, appProtocol: {type: \
         string}, port: {type: integer, format: int32}}}";
    let affinity = "{type: object, properties: {clientIP: {type: object, properties: {timeoutSeconds: {type: integer, format: int32}}}}}";
    format!(
        "{{type: object, properties: {{spec: {{type: object, required: [ports, type], properties: {{ports: {{type: array, \
         x-kubernetes-list-type: atomic, items: {port}}}, ips: {{type: array, maxItems: 2, items: {{type: string}}}}, type: {{type: \
         string, enum: [ClusterSetIP, Headless]}}, sessionAffinity: {{type: string}}, sessionAffinityConfig: {affinity}, ipFamilies: \
         {{type: array, maxItems: 2, items: {{type: string}}}}, internalTrafficPolicy: {{type: string}}, trafficDistribution: {{type: \
         string}}}}}}, status: {{type: object, properties: {{clusters: {{type: array, x-kubernetes-list-type: map, \
         x-kubernetes-list-map-keys: [cluster], items: {{type: object, required: [cluster], properties: {{cluster: {{type: \
         string}}}}}}}}, conditions: {CONDITIONS}}}}}}}}}"
    )
}

fn definition(kind: &str, schema: &str, versions: &[&str]) -> String {
    let plural = format!("{}s", kind.to_lowercase());
    let last = versions.last().expect("a version");
    let version = |version: &&str| {
        format!(
            "{{name: {version}, served: true, storage: {}, subresources: {{status: {{}}}}, schema: {{openAPIV3Schema: {schema}}}}}",
            version == last
        )
    };
    let versions: Vec<String> = versions.iter().map(version).collect();
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.multicluster.x-k8s.io, \
         annotations: {{api-approved.kubernetes.io: \"https://github.com/kubernetes/enhancements/pull/1748\"}}}}\nspec: {{group: \
         multicluster.x-k8s.io, scope: Namespaced, names: {{kind: {kind}, listKind: {kind}List, plural: {plural}, singular: {}}}, \
         versions: [{}]}}\n",
        kind.to_lowercase(),
        versions.join(", ")
    )
}

/// Installs the kinds in these versions, the last of which is the one that is stored.
pub fn install(server: &ApiServer, versions: &[&str]) {
    let kinds = [("ServiceExport", export_schema()), ("ServiceImport", import_schema())];
    let text: Vec<String> = kinds.iter().map(|(kind, schema)| definition(kind, schema, versions)).collect();
    server.apply(&text.join("---\n"));
    for plural in ["serviceexports", "serviceimports"] {
        let crd = format!("crd/{plural}.multicluster.x-k8s.io");
        server.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &crd]);
    }
    // Established says that one API server serves it; kubectl's discovery may be a moment behind.
    eventually("the kinds of the MCS API to be known", std::time::Duration::from_secs(30), || {
        let known = server.kubectl(&["api-resources", "--api-group=multicluster.x-k8s.io", "-o", "name"]);
        known.contains("serviceimports").then_some(())
    });
}

/// A ServiceExport in the namespace `shop`.
pub fn export(version: &str, name: &str) -> String {
    format!(
        "apiVersion: multicluster.x-k8s.io/{version}\nkind: ServiceExport\nmetadata: {{namespace: shop, name: {name}}}\n"
    )
}
