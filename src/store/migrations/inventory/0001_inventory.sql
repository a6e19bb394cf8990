-- What was last known of the clusters. All times are milliseconds since the Unix epoch.

CREATE TABLE pod (
    cluster          TEXT    NOT NULL,
    namespace        TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    uid              TEXT    NOT NULL,          -- empty where not said
    node             TEXT,                      -- the Kubernetes node
    addresses        TEXT    NOT NULL,          -- a JSON array of texts
    phase            TEXT    NOT NULL,          -- empty where not said
    ready            INTEGER NOT NULL CHECK (ready IN (0, 1)),
    labels           TEXT    NOT NULL,          -- a JSON object
    weight           INTEGER NOT NULL,
    resource_version TEXT    NOT NULL,          -- empty where not said
    created_at       INTEGER,                   -- by Kubernetes; NULL where not said
    first_seen_at    INTEGER NOT NULL,          -- of this uid
    updated_at       INTEGER NOT NULL,          -- when it last became different
    seen_at          INTEGER NOT NULL,          -- when it was last told
    PRIMARY KEY (cluster, namespace, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX pod_by_node ON pod (cluster, node);

CREATE TABLE kube_node (
    cluster    TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    region     TEXT    NOT NULL,                -- empty where not said
    zone       TEXT    NOT NULL,                -- empty where not said
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (cluster, name)
) STRICT, WITHOUT ROWID;

-- For people: a pod with where it runs.
CREATE VIEW pods AS
SELECT pod.cluster, pod.namespace, pod.name, pod.uid, pod.node, kube_node.region, kube_node.zone, pod.addresses,
       pod.phase, pod.ready, pod.labels, pod.weight, pod.resource_version, pod.created_at, pod.first_seen_at,
       pod.updated_at, pod.seen_at
FROM pod
LEFT JOIN kube_node ON kube_node.cluster = pod.cluster AND kube_node.name = pod.node;

-- What happened to an Envoy. AUTOINCREMENT, so that the order of ids is the order of events even
-- after old ones were removed.
CREATE TABLE node_events (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    node   TEXT    NOT NULL,                    -- node.id
    at     INTEGER NOT NULL,
    event  TEXT    NOT NULL,
    detail TEXT    NOT NULL
) STRICT;

CREATE INDEX node_events_by_node ON node_events (node, id);

-- The last good content of each manifest file, served while the file itself is broken.
CREATE TABLE manifest_files (
    cluster    TEXT    NOT NULL,
    path       TEXT    NOT NULL,                -- relative to the manifests' folder
    sha256     TEXT    NOT NULL,                -- of the content, in hexadecimal
    content    TEXT    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (cluster, path)
) STRICT, WITHOUT ROWID;
