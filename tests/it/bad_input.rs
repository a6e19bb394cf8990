//! What people get wrong in manifests, and what they are told: file, line, object, field, and what
//! to do about it. Nothing else changes meanwhile.

use std::time::Duration;

use causeway::manifests::{Finding, Format, Problem, decode};

use crate::manifests::{Bench, service};

/// A mistake.
#[derive(Debug)]
struct Case {
    /// The file's content; `⟦…⟧` marks the line that is to be told.
    text: &'static str,
    object: &'static str,
    field: &'static str,
    message: &'static str,
    remedy: &'static str,
}

const fn case(
    text: &'static str,
    object: &'static str,
    field: &'static str,
    message: &'static str,
    remedy: &'static str,
) -> Case {
    Case { text, object, field, message, remedy }
}

/// Not readable as a document at all.
const SYNTAX: &[Case] = &[
    case("kind: Service\n⟦metadata: {name: web⟧\n", "", "", "this is no YAML", "close every"),
    case("metadata:\n⟦\tname: web⟧\n", "", "", "this is no YAML", "indent with spaces"),
    case("⟦description: one: two⟧\n", "", "", "mapping values are not allowed", "into quotes"),
    case("a: 1\n⟦b: \"open⟧\n", "", "", "quoted scalar", "close the quotes"),
    case("a:\n  - 1\n⟦ b: 2⟧\n", "", "", "this is no YAML", "indentation"),
    case("⟦a: *nowhere⟧\n", "", "", "unknown anchor", "define the anchor"),
    case("⟦a: @home⟧\n", "", "", "unexpected character", "quotes"),
    case("kind: Service\n⟦{{- if .Values.web }}⟧\nspec: {}\n", "", "", "this is no YAML", "helm template"),
    case("⟦a: !secret x⟧\n", "", "", "the tag `!secret` means nothing", "remove the tag"),
    case("⟦? [a, b]⟧\n: c\n", "", "", "a key is not a plain text", "write a name"),
    case("kind: x\n⟦<<: 3⟧\n", "", "", "the merge key", "write the fields out"),
    case("a:\n c~\n⟦? ⟧", "", "", "a key is not a plain text", "write a name"),
    case("⟦{\"kind\": \"Service\",, }⟧", "", "", "this is no YAML", ""),
];

/// Not an object, or not one that is known.
const OBJECTS: &[Case] = &[
    case("⟦just words⟧\n", "document 1", "", "no Kubernetes object", "write `apiVersion:`"),
    case("⟦metadata: {name: web}⟧\n", "document 1", "kind", "does not say its kind", "write `kind:`"),
    case("⟦kind: Service⟧\nmetadata: {name: web}\n", "document 1", "apiVersion", "apiVersion", "write `apiVersion:`"),
    case(
        "apiVersion: v1\n⟦kind: service⟧\nmetadata: {name: web}\n",
        "service web",
        "kind",
        "there is no kind `service`",
        "did you mean `Service`?",
    ),
    case(
        "apiVersion: causeway.dev/v1alpha1\n⟦kind: ClusterAcess⟧\nmetadata: {name: a, namespace: b}\n",
        "ClusterAcess b/a",
        "kind",
        "no kind `ClusterAcess`",
        "did you mean `ClusterAccess`?",
    ),
    case(
        "⟦apiVersion: causeway.dev/v1⟧\nkind: VipPool\nmetadata: {name: a}\n",
        "VipPool a",
        "apiVersion",
        "not a kind of `causeway.dev/v1`",
        "causeway.dev/v1alpha1",
    ),
    case(
        "⟦apiVersion: discovery.k8s.io/v1beta1⟧\nkind: EndpointSlice\nmetadata: {name: a, namespace: b}\n",
        "EndpointSlice b/a",
        "apiVersion",
        "removed it in 1.25",
        "use `discovery.k8s.io/v1`",
    ),
    case(
        "apiVersion: causeway.dev/v1alpha1\n⟦kind: Gateway⟧\nmetadata: {name: a}\n",
        "Gateway a",
        "kind",
        "this version has no kind `Gateway`",
        "remove the object",
    ),
    case("apiVersion: v1\nkind: List\n⟦items: {}⟧\n", "document 1", "items", "no list", "begin each item"),
    case(
        "apiVersion: v1\nkind: List\nitems:\n⟦- 7⟧\n",
        "document 1, items[0]",
        "",
        "no Kubernetes object",
        "write `apiVersion:`",
    ),
    case(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: a\n⟦  name: b⟧\n",
        "Node a",
        "metadata.name",
        "the key is there twice; first on line 4",
        "remove one",
    ),
    case(
        "apiVersion: v1\nkind: Node\nmetadata: {name: a}\n---\n⟦apiVersion: v1⟧\nkind: Node\nmetadata: {name: a}\n",
        "Node a",
        "metadata.name",
        "in this file twice; first on line 1",
        "remove one",
    ),
];

/// Kubernetes' own kinds.
const KUBERNETES: &[Case] = &[
    case(
        "apiVersion: v1\nkind: Service\n⟦metadata: {name: web}⟧\n",
        "Service web",
        "metadata.namespace",
        "no namespace",
        "write the namespace",
    ),
    case(
        "apiVersion: v1\nkind: Service\n⟦metadata: {namespace: shop}⟧\n",
        "Service on line 1",
        "metadata.name",
        "no name",
        "write a name",
    ),
    case(
        "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: shop\n⟦  name: Web_1⟧\n",
        "Service shop/Web_1",
        "metadata.name",
        "`Web_1` has upper case letters",
        "a-z, 0-9",
    ),
    case(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\nspec:\n  ports:\n⟦  - port: 70000⟧\n",
        "Service shop/web",
        "spec.ports[0].port",
        "70000 is no port number",
        "1 to 65535",
    ),
    case(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\nspec:\n  ports:\n⟦  - port: \"80\"⟧\n",
        "Service shop/web",
        "spec.ports[0].port",
        "the text `80` stands where a whole number",
        "without quotes",
    ),
    case(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\nspec:\n⟦  ports: {port: 80}⟧\n",
        "Service shop/web",
        "spec.ports",
        "a mapping stands where a list is wanted",
        "begin each entry with `- `",
    ),
    case(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\nspec:\n  ports:\n  - port: 80\n    \
         name: a\n⟦  - port: 81⟧\n",
        "Service shop/web",
        "spec.ports[1].name",
        "no name",
        "name each port",
    ),
    case(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\nspec:\n  ports:\n  - {port: 80, name: \
         a}\n⟦  - {port: 80, name: b}⟧\n",
        "Service shop/web",
        "spec.ports[1].port",
        "port 80 over TCP is there twice",
        "remove one",
    ),
    case(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\nspec:\n  ports:\n⟦  - {port: 80, \
         protocol: HTTP}⟧\n",
        "Service shop/web",
        "spec.ports[0].protocol",
        "`HTTP` is no transport protocol",
        "use `TCP`",
    ),
    case(
        "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: shop\n  name: web\n  labels:\n⟦    version: 1.10⟧\n",
        "Service shop/web",
        "metadata.labels.version",
        "stands where a text is wanted",
        "put it into quotes: \"1.10\"",
    ),
    case(
        "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: shop\n  name: web\n⟦  creationTimestamp: \
         yesterday⟧\n",
        "Service shop/web",
        "metadata.creationTimestamp",
        "`yesterday` is no time",
        "2026-01-31T12:00:00Z",
    ),
    case(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: shop\n  name: web\n  labels:\n⟦    \
         kubernetes.io/service-name: -web⟧\naddressType: IPv4\n",
        "EndpointSlice shop/web",
        "metadata.labels[kubernetes.io/service-name]",
        "`-web` does not start",
        "the name of a Service",
    ),
    case(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: shop, name: web, labels: \
         {kubernetes.io/service-name: web}}\n⟦addressType: IPv5⟧\n",
        "EndpointSlice shop/web",
        "addressType",
        "`IPv5` is no type",
        "use `IPv4`",
    ),
    case(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: shop, name: web, labels: \
         {kubernetes.io/service-name: web}}\naddressType: IPv4\nendpoints:\n- addresses: [10.0.0.1]\n⟦- addresses: \
         [web.local]⟧\n",
        "EndpointSlice shop/web",
        "endpoints[1].addresses[0]",
        "`web.local` is no IP address",
        "the pod's IP address",
    ),
    case(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: shop, name: web, labels: \
         {kubernetes.io/service-name: web}}\naddressType: IPv4\nendpoints:\n⟦- addresses: [\"fd00::1\"]⟧\n",
        "EndpointSlice shop/web",
        "endpoints[0].addresses[0]",
        "not of the slice's addressType",
        "slices of their own",
    ),
    case(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: shop, name: web, labels: \
         {kubernetes.io/service-name: web}}\naddressType: IPv4\nendpoints:\n⟦- addresses: []⟧\n",
        "EndpointSlice shop/web",
        "endpoints[0].addresses",
        "no address",
        "list its address",
    ),
    case(
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: web-1}\nstatus:\n  podIPs:\n⟦  - ip: 10.0.0.256⟧\n",
        "Pod shop/web-1",
        "status.podIPs[0].ip",
        "no IP address",
        "the pod's IP",
    ),
    case(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: n1\n⟦  namespace: shop⟧\n",
        "Node shop/n1",
        "metadata.namespace",
        "belongs to no namespace",
        "remove the field",
    ),
];

const POLICY: &str = "apiVersion: causeway.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\n";

/// Policies; the text follows [`POLICY`].
const POLICIES: &[Case] = &[
    case(
        "spec:\n  world: lb-policy\n⟦  component: {from: {path: a.wasm}}⟧\n",
        "",
        "spec.component.digest",
        "has no digest",
        "`sha256sum` prints",
    ),
    case(
        "spec:\n  world: lb-policy\n⟦  component: {digest: sha256:12, from: {path: a.wasm}}⟧\n",
        "",
        "spec.component.digest",
        "`sha256:12` is no digest",
        "64 hexadecimal digits",
    ),
    case(
        "spec:\n  world: lb-policy\n⟦  component: {from: {oci: oci://registry/mine:latest}}⟧\n",
        "",
        "spec.component.from.oci",
        "registry/mine:latest",
        "@sha256:",
    ),
    case(
        "spec:\n  world: lb-policy\n⟦  component: {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000', from: {path: ../a.wasm}}⟧\n",
        "",
        "spec.component.from.path",
        "leads elsewhere",
        "--policy-dir",
    ),
    case(
        "spec:\n  world: lb-policy\n⟦  component: {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000', from: {path: a.wasm, upload: {}}}⟧\n",
        "",
        "spec.component.from",
        "`upload` and `path` exclude each other",
        "exactly one of",
    ),
    case(
        "spec:\n⟦  world: lb-polizy⟧\n  component: {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}\n",
        "",
        "spec.world",
        "lb-polizy",
        "did you mean `lb-policy`?",
    ),
    case(
        "spec:\n  world: lb-policy\n  component: {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}\n⟦  limits: {fuel: 0}⟧\n",
        "",
        "spec.limits.fuel",
        "0 instructions is not within 1 to",
        "leave the field out",
    ),
    case(
        "spec:\n  world: lb-policy\n  component: {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}\n⟦  limits: {maxRemovedPercent: 101}⟧\n",
        "",
        "spec.limits.maxRemovedPercent",
        "101 % is not within 1 to 100",
        "leave the field out",
    ),
];

const POOL: &str = "apiVersion: causeway.dev/v1alpha1\nkind: VipPool\nmetadata: {name: edge}\n";

/// VipPools; the text follows [`POOL`].
const POOLS: &[Case] = &[
    case("⟦spec: {}⟧\n", "", "spec.ranges", "no addresses", "240.11.0.0/16"),
    case(
        "spec:\n⟦  range: [240.11.0.0/16]⟧\n",
        "",
        "spec.range",
        "there is no field `range`",
        "did you mean `ranges`?",
    ),
    case("spec:\n⟦  ranges: 240.11.0.0/16⟧\n", "", "spec.ranges", "where a list is wanted", "begin each entry"),
    case("spec:\n  ranges:\n⟦  - 240.11.0.0/40⟧\n", "", "spec.ranges[0]", "no range of addresses", "240.11.0.0/16"),
    case("spec:\n  ranges:\n⟦  - 240.11.0.7/16⟧\n", "", "spec.ranges[0]", "bits set beyond", "write `240.11.0.0/16`"),
    case("spec:\n  ranges:\n⟦  - 10.0.0.9-10.0.0.1⟧\n", "", "spec.ranges[0]", "ends before", "10.0.0.1-10.0.0.9"),
    case("spec:\n  ranges:\n⟦  - 10.0.0.1-fd00::1⟧\n", "", "spec.ranges[0]", "one IP family", "for each family"),
    case("spec:\n  ranges:\n⟦  - 224.0.0.0/8⟧\n", "", "spec.ranges[0]", "multicast", "unicast"),
    case(
        "spec:\n  ranges:\n  - 240.11.0.0/16\n⟦  - 240.11.5.0-240.12.0.0⟧\n",
        "",
        "spec.ranges[1]",
        "overlaps with spec.ranges[0]",
        "disjoint",
    ),
    case(
        "spec:\n  ranges: [240.11.0.0/16]\n  reserved:\n⟦  - 240.12.0.1⟧\n",
        "",
        "spec.reserved[0]",
        "in none of the pool's ranges",
        "an address of the ranges",
    ),
    case("spec:\n  ranges: [240.11.0.0/16]\n⟦  reserved: [240.11.0.0/30]⟧\n", "", "spec.reserved[0]", "no IP", "each"),
    case(
        "spec:\n⟦  ranges: [240.11.0.0/16]⟧\n  assignedBy: DataPlane\n",
        "",
        "spec.ranges",
        "agents have the ranges",
        "ControlPlane",
    ),
    case(
        "spec:\n  ranges: [240.11.0.0/16]\n⟦  assignedBy: Dataplane⟧\n",
        "",
        "spec.assignedBy",
        "`Dataplane` is not one",
        "did you mean `DataPlane`?",
    ),
    case(
        "spec:\n  ranges: [240.11.0.0/16]\n⟦  quotaPerNamespace: -1⟧\n",
        "",
        "spec.quotaPerNamespace",
        "-1",
        "whole number",
    ),
    case(
        "spec:\n  ranges: [240.11.0.0/16]\n  gateways:\n    matchExpressions:\n⟦    - {key: role, operator: In}⟧\n",
        "",
        "spec.gateways.matchExpressions[0].values",
        "needs values",
        "list at least one",
    ),
    case(
        "spec:\n  ranges: [240.11.0.0/16]\n  namespaceSelector:\n    matchLabels:\n⟦      team: shop⟧\n",
        "",
        "spec.namespaceSelector.matchLabels[team]",
        "only its name is known",
        "kubernetes.io/metadata.name",
    ),
];

const INFO: &str = "apiVersion: causeway.dev/v1alpha1\nkind: ClusterInfo\nmetadata: {name: east}\n";

/// ClusterInfos; the text follows [`INFO`].
const INFOS: &[Case] = &[
    case("spec:\n⟦  role: Secondary⟧\n", "", "spec.role", "`Secondary`", "use `Primary` or `Sub`"),
    case(
        "spec:\n⟦  source: {member: {}, manifests: {}}⟧\n",
        "",
        "spec.source",
        "`member` and `manifests` exclude each other",
        "exactly one",
    ),
    case("spec:\n⟦  source: {}⟧\n", "", "spec.source", "none of", "exactly one"),
    case(
        "spec:\n  locality:\n⟦    regoin: eu-1⟧\n",
        "",
        "spec.locality.regoin",
        "no field `regoin`",
        "did you mean `region`?",
    ),
    case(
        "spec:\n  namespaces:\n⟦    exclude: [\"kube-*\"]⟧\n",
        "",
        "spec.namespaces.exclude[0]",
        "`kube-*`",
        "patterns are not understood",
    ),
];

const ACCESS: &str =
    "apiVersion: causeway.dev/v1alpha1\nkind: ClusterAccess\nmetadata: {namespace: shop, name: checkout}\n";

/// ClusterAccesses; the text follows [`ACCESS`].
const ACCESSES: &[Case] = &[
    case("⟦sepc: {}⟧\n", "", "sepc", "no field `sepc`", "did you mean `spec`?"),
    case(
        "spec:\n⟦  service: {name: a, selector: {}}⟧\n",
        "",
        "spec.service",
        "`name` and `selector` exclude each other",
        "exactly one",
    ),
    case("spec:\n⟦  service: {}⟧\n", "", "spec.service", "none of", "exactly one"),
    case("spec:\n⟦  service: {name: other/checkout}⟧\n", "", "spec.service.name", "characters", "own namespace"),
    case("spec:\n⟦  ports: []⟧\n", "", "spec.ports", "chooses no port", "leave the field out"),
    case("spec:\n  ports:\n⟦  - 80⟧\n", "", "spec.ports[0]", "the number 80", "name: value"),
    case("spec:\n  ports:\n⟦  - number: 0⟧\n", "", "spec.ports[0].number", "0 is no port", "1 to 65535"),
    case("spec:\n⟦  clusters: {names: []}⟧\n", "", "spec.clusters.names", "chooses no cluster", "leave"),
    case("spec:\n  hostnames:\n⟦  - https://a.example.com⟧\n", "", "spec.hostnames[0]", "URL", "whole DNS name"),
    case("spec:\n  hostnames:\n⟦  - \"*.example.com\"⟧\n", "", "spec.hostnames[0]", "wildcard", "whole DNS name"),
    case(
        "spec:\n  hostnames:\n⟦  - pay.svc.ClusterSet.local.⟧\n",
        "",
        "spec.hostnames[0]",
        "below `clusterset.local`",
        "your own domain",
    ),
    case(
        "spec:\n  hostnames:\n  - a.example.com\n⟦  - A.example.com.⟧\n",
        "",
        "spec.hostnames[1]",
        "there twice",
        "remove one",
    ),
    case("spec:\n  vip:\n⟦    families: [ipv4]⟧\n", "", "spec.vip.families[0]", "`ipv4`", "did you mean `IPv4`?"),
    case("spec:\n  vip:\n⟦    families: [IPv4, IPv4]⟧\n", "", "spec.vip.families[1]", "twice", "remove one"),
    case("spec:\n  vip:\n⟦    per: pods⟧\n", "", "spec.vip.per", "`pods`", "did you mean `Pod`?"),
    case(
        "spec:\n  vip:\n    addresses:\n    - 240.11.0.7\n⟦    - 240.11.0.8⟧\n",
        "",
        "spec.vip.addresses[1]",
        "same family",
        "at most one",
    ),
    case(
        "spec:\n  vip:\n    families: [IPv6]\n    addresses:\n⟦    - 240.11.0.8⟧\n",
        "",
        "spec.vip.addresses[0]",
        "does not ask for",
        "add the family",
    ),
    case(
        "spec:\n  vip:\n    per: Pod\n⟦    addresses: [240.11.0.8]⟧\n",
        "",
        "spec.vip.addresses",
        "every pod's",
        "leave the addresses out",
    ),
    case("spec:\n  publish:\n⟦    minGateways: 0⟧\n", "", "spec.publish.minGateways", "0", "1 or more"),
    case("spec:\n  publish:\n⟦    ttlSeconds: 0⟧\n", "", "spec.publish.ttlSeconds", "0", "1 to 86400"),
    case("spec:\n  publish:\n⟦    evidence: Guessed⟧\n", "", "spec.publish.evidence", "`Guessed`", "use `Acked`"),
];

const SNAPSHOT: &str =
    "apiVersion: causeway.dev/v1alpha1\nkind: EndpointSnapshot\nmetadata: {namespace: shop, name: mine}\n";

/// EndpointSnapshots; the text follows [`SNAPSHOT`].
const SNAPSHOTS: &[Case] = &[
    case("spec:\n⟦  pods: []⟧\n", "", "spec.access", "`access` is missing", "add `access`"),
    case("spec:\n⟦  access: Checkout⟧\n", "", "spec.access", "upper case", "name of a ClusterAccess"),
    case("spec:\n  access: a\n⟦  acces: b⟧\n", "", "spec.acces", "no field `acces`", "did you mean `access`?"),
    case("spec:\n  access: a\n⟦  owner: Me⟧\n", "", "spec.owner", "`Me`", "use `System` or `User`"),
    case("spec:\n  access: a\n⟦  service: b/c⟧\n", "", "spec.service", "characters", "name of a Service"),
    case("spec:\n  access: a\n⟦  cluster: a.b⟧\n", "", "spec.cluster", "characters", "for the primary"),
    case(
        "spec:\n  access: a\n  pods:\n⟦  - {weight: 2}⟧\n",
        "",
        "spec.pods[0].name",
        "`name` is missing",
        "add `name`",
    ),
    case("spec:\n  access: a\n  pods:\n⟦  - {name: VM}⟧\n", "", "spec.pods[0].name", "upper case", "a pod's name"),
    case(
        "spec:\n  access: a\n  pods:\n  - {name: vm}\n⟦  - {name: vm}⟧\n",
        "",
        "spec.pods[1].name",
        "twice; first in spec.pods[0]",
        "another name",
    ),
    case(
        "spec:\n  access: a\n  pods:\n  - name: vm\n⟦    addresses: [vm.local]⟧\n",
        "",
        "spec.pods[0].addresses[0]",
        "`vm.local` is no IP address",
        "the backend answers",
    ),
    case(
        "spec:\n  access: a\n  pods:\n  - name: vm\n    addresses:\n    - 10.0.0.1\n⟦    - 224.0.0.1⟧\n",
        "",
        "spec.pods[0].addresses[1]",
        "multicast",
        "the backend answers",
    ),
    case(
        "spec:\n  access: a\n  pods:\n  - name: vm\n    ports:\n⟦      http: 0⟧\n",
        "",
        "spec.pods[0].ports[http]",
        "0 is no port number",
        "1 to 65535",
    ),
    case(
        "spec:\n  access: a\n  pods:\n  - name: vm\n    ports:\n⟦      HTTP: 80⟧\n",
        "",
        "spec.pods[0].ports[HTTP]",
        "upper case",
        "name of a port",
    ),
    case(
        "spec:\n  access: a\n  pods:\n  - name: vm\n⟦    weight: 1001⟧\n",
        "",
        "spec.pods[0].weight",
        "1001 is no weight",
        "1 to 1000",
    ),
    case("spec:\n  access: a\n  pods:\n  - name: vm\n⟦    weight: -1⟧\n", "", "spec.pods[0].weight", "-1", "whole"),
    case("spec:\n  access: a\n  pods:\n  - name: vm\n⟦    drain: soon⟧\n", "", "spec.pods[0].drain", "soon", "true"),
];

/// The content of the file, its line that is to be told, and the object where the table leaves it
/// out.
fn prepared(prefix: &str, object: &str, case: &Case) -> (String, u32, String) {
    let marked = format!("{prefix}{}", case.text);
    let line = 1 + marked.split('⟦').next().unwrap_or_default().matches('\n').count();
    let text = marked.replace(['⟦', '⟧'], "");
    let object = if case.object.is_empty() { object } else { case.object };
    (text, u32::try_from(line).expect("few lines"), object.to_owned())
}

fn cases() -> Vec<(String, u32, String, &'static Case)> {
    let tables = [
        ("", "", SYNTAX),
        ("", "", OBJECTS),
        ("", "", KUBERNETES),
        (POOL, "VipPool edge", POOLS),
        (INFO, "ClusterInfo east", INFOS),
        (ACCESS, "ClusterAccess shop/checkout", ACCESSES),
        (SNAPSHOT, "EndpointSnapshot shop/mine", SNAPSHOTS),
        (POLICY, "Policy mine", POLICIES),
    ];
    let prepare = |(prefix, object, table): (&'static str, &'static str, &'static [Case])| {
        table.iter().map(move |case| {
            let (text, line, object) = prepared(prefix, object, case);
            (text, line, object, case)
        })
    };
    tables.into_iter().flat_map(prepare).collect()
}

#[test]
fn each_mistake_is_found_where_it_is() {
    let mut wrong = String::new();
    for (text, line, object, case) in cases() {
        let findings = decode(Format::Yaml, text.as_bytes()).findings;
        let right = |f: &Finding| {
            f.line == line
                && f.object == object
                && f.field == case.field
                && f.message.contains(case.message)
                && f.remedy.contains(case.remedy)
        };
        if findings.len() != 1 || !right(&findings[0]) {
            wrong.push_str(&format!("{text}\nwanted: line {line}, {object:?}, {case:?}\nfound: {findings:#?}\n\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn each_mistake_is_told_with_its_place_and_its_remedy() {
    let mut bench =
        Bench::new(&[("east/bad.yaml", &service("kept", 80)), ("east/good.yaml", &service("other", 80))]).await;
    let cases = cases();
    assert!(cases.len() >= 40, "{}", cases.len());
    println!("bad input: {} kinds", cases.len());
    for (text, line, object, case) in cases {
        bench.write("east/bad.yaml", &text);
        let wanted = |problem: &Problem| {
            problem.file.as_deref() == Some("east/bad.yaml")
                && problem.line == Some(line)
                && problem.object == object
                && problem.field == case.field
                && problem.message.contains(case.message)
                && problem.remedy.contains(case.remedy)
        };
        let what = format!("this is told: line {line}, {object:?}, {:?}, of\n{text}", case.field);
        let report = bench.until_report(&what, |report| report.problems.iter().any(wanted)).await;
        // One mistake is told once.
        assert_eq!(report.problems.len(), 1, "{text}\n{:#?}", report.problems);
        let problem = &report.problems[0];
        assert_eq!(problem.cluster, "east");
        assert!(!problem.message.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
        assert!(problem.message.ends_with("last good content stays in use"), "{problem:?}");
    }
    bench.for_a_while(Duration::from_millis(100)).await;
    assert!(bench.log().is_empty(), "{:?}", bench.log());
}

#[tokio::test]
async fn what_is_no_text_is_told_too() {
    let bench = Bench::new(&[("east/bad.yaml", &service("kept", 80))]).await;
    let deep = "[".repeat(5000);
    let bomb: String = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
        .chain((1..9).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "))))
        .collect();
    let cases: [(&[u8], u32, &str); 6] = [
        (b"kind: x\nname: \xff\n", 2, "not UTF-8"),
        (b"\xff\xfek\0i\0n\0d\0", 1, "UTF-16"),
        (b"kind: \0x\n", 1, "no YAML"),
        (deep.as_bytes(), 1, ""),
        (bomb.as_bytes(), 5, "repeat more than"),
        (b"\x7fELF\x02\x01\x01\0\0\0", 1, "no YAML"),
    ];
    for (bytes, line, message) in cases {
        std::fs::write(bench.root.path().join("east/bad.yaml"), bytes).expect("written");
        let told = |problem: &Problem| problem.line == Some(line) && problem.message.contains(message);
        bench.until_report(message, |report| report.problems.len() == 1 && told(&report.problems[0])).await;
    }
}

#[tokio::test]
async fn all_mistakes_of_an_object_are_told_at_once() {
    let text =
        format!("{ACCESS}spec:\n  ports: []\n  hostnames: [com]\n  publish: {{minGateways: 0, ttlSeconds: 0}}\n");
    let bench = Bench::new(&[("east/bad.yaml", &text)]).await;
    let report = bench.until_report("four are told", |report| report.problems.len() == 4).await;
    let lines: Vec<_> = report.problems.iter().map(|p| p.line).collect();
    assert_eq!(lines, [Some(5), Some(6), Some(7), Some(7)]);
    assert!(report.problems[0].message.ends_with("nothing of the file is in use"), "{report:?}");
}

#[tokio::test]
async fn a_tenants_wrong_weight_spoils_only_the_weight() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: shop\n  name: web-1\n  annotations:\n    \
               causeway.dev/weight: heavy\n";
    let bench = Bench::new(&[("east/a.yaml", &format!("{pod}---\n{}", service("web", 80)))]).await;
    let report = bench.until_report("it is told", |report| report.problems.len() == 1).await;
    let problem = &report.problems[0];
    assert_eq!((problem.line, problem.field.as_str()), (Some(7), "metadata.annotations[causeway.dev/weight]"));
    assert!(problem.message.contains("the pod's weight is 1"), "{problem:?}");
    assert_eq!(report.folders["east"].objects, 2);
}

#[test]
fn an_object_of_many_parts_takes_time_by_their_number() {
    const MANY: usize = 30_000;
    let access =
        "apiVersion: causeway.dev/v1alpha1\nkind: ClusterAccess\nmetadata: {namespace: shop, name: web}\nspec:\n";
    let list = |part: &dyn Fn(usize) -> String| (0..MANY).map(part).collect::<String>();
    let ports = list(&|n| format!("  - name: p{n}\n"));
    let hostnames = list(&|n| format!("  - h{n}.example.com\n"));
    let taken = decode(Format::Yaml, format!("{access}  ports:\n{ports}  hostnames:\n{hostnames}").as_bytes());
    assert_eq!((taken.objects.len(), taken.findings), (1, Vec::new()));
    let labels = list(&|n| format!("        -l{n:05}: x\n"));
    let text = format!("{access}  service:\n    selector:\n      matchLabels:\n{labels}");
    let told = decode(Format::Yaml, text.as_bytes()).findings;
    assert_eq!(told.len(), 50);
    assert!(told.iter().enumerate().all(|(n, finding)| finding.line as usize == 8 + n), "{:?}", told[0]);
    assert!(told[49].message.contains(&format!("and {} more findings", MANY - 49)), "{:?}", told[49]);
}
