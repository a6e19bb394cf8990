-- Everything that outlives the process, in the schema `causeway`. All times are milliseconds since the Unix epoch.
-- Texts are ordered by their bytes, whatever the database's collation is: an index must not depend on it.

-- Which address is given to whom.
CREATE TABLE ledger (
    address      TEXT    COLLATE "C" NOT NULL PRIMARY KEY,  -- the VIP, in its canonical text form
    slot         TEXT    COLLATE "C" NOT NULL UNIQUE,       -- what it is given to: access, service, pod, family, node
    pool         TEXT    NOT NULL,
    access       TEXT    NOT NULL,              -- namespace/name
    service      TEXT    NOT NULL,              -- namespace/name
    pod          TEXT,                          -- where VIPs are per pod
    family       TEXT    NOT NULL CHECK (family IN ('IPv4', 'IPv6')),
    node         TEXT,                          -- the gateway, where its agent assigned the address
    phase        TEXT    NOT NULL CHECK (phase <> ''),
    since        BIGINT,                        -- when the phase began, where that matters
    ports        TEXT    NOT NULL CHECK (ports::json IS NOT NULL),
    ttl_seconds  BIGINT  NOT NULL CHECK (ttl_seconds >= 0),
    assigned_by  TEXT    NOT NULL,
    allocated_at BIGINT  NOT NULL,
    changed_at   BIGINT  NOT NULL
);

-- A component, once for all policies and versions that have it.
CREATE TABLE component (
    digest TEXT   COLLATE "C" NOT NULL PRIMARY KEY,         -- `sha256:` and 64 hexadecimal digits, of the bytes
    world  TEXT   NOT NULL CHECK (world IN ('lb-policy', 'vip-policy')),
    size   BIGINT NOT NULL CHECK (size = octet_length(bytes)),
    bytes  BYTEA  NOT NULL
);

-- Policies that were uploaded or declared.
CREATE TABLE policy (
    name     TEXT    COLLATE "C" NOT NULL PRIMARY KEY CHECK (name <> ''),
    active   BIGINT,                            -- the version in force; NULL where none is
    before   BIGINT,                            -- the one that was before it, for a way back
    declared BOOLEAN NOT NULL DEFAULT FALSE     -- whether a Policy object says what it is
);

-- What a policy was at some time: a component and its settings.
CREATE TABLE policy_version (
    policy              TEXT   COLLATE "C" NOT NULL REFERENCES policy (name) ON DELETE CASCADE,
    number              BIGINT NOT NULL CHECK (number > 0),         -- in the order of uploads; never used again
    digest              TEXT   COLLATE "C" NOT NULL REFERENCES component (digest),
    config              TEXT   NOT NULL CHECK (config::json IS NOT NULL),
    fuel                BIGINT NOT NULL CHECK (fuel > 0),           -- instructions of a call
    memory_mib          BIGINT NOT NULL CHECK (memory_mib > 0),
    max_removed_percent BIGINT NOT NULL DEFAULT 100                 -- of what is in service, by one decision
        CHECK (max_removed_percent BETWEEN 1 AND 100),
    on_failure          TEXT   NOT NULL CHECK (on_failure IN ('KeepLast', 'Default')),
    uploaded_at         BIGINT NOT NULL,
    source              TEXT   NOT NULL DEFAULT 'upload',           -- or what the object's source says
    signed_by           TEXT,                                       -- the key, where a signature was verified
    PRIMARY KEY (policy, number)
);

CREATE INDEX policy_version_by_digest ON policy_version (digest);

-- For people: each policy's versions, and which of them is in force.
CREATE VIEW policies AS
SELECT policy.name, policy_version.number, policy.active IS NOT DISTINCT FROM policy_version.number AS active,
       component.world, component.digest, component.size, policy_version.config::json AS config, policy_version.fuel,
       policy_version.memory_mib, policy_version.max_removed_percent, policy_version.on_failure,
       policy_version.uploaded_at
FROM policy
JOIN policy_version ON policy_version.policy = policy.name
JOIN component ON component.digest = policy_version.digest;

-- What was last known of the clusters.
CREATE TABLE pod (
    cluster          TEXT    COLLATE "C" NOT NULL,
    namespace        TEXT    COLLATE "C" NOT NULL,
    name             TEXT    COLLATE "C" NOT NULL,
    uid              TEXT    NOT NULL,          -- empty where not said
    node             TEXT    COLLATE "C",       -- the Kubernetes node
    addresses        TEXT    NOT NULL,          -- a JSON array of texts
    phase            TEXT    NOT NULL,          -- empty where not said
    ready            BOOLEAN NOT NULL,
    labels           TEXT    NOT NULL,          -- a JSON object
    weight           BIGINT  NOT NULL,
    resource_version TEXT    NOT NULL,          -- empty where not said
    created_at       BIGINT,                    -- by Kubernetes; NULL where not said
    first_seen_at    BIGINT  NOT NULL,          -- of this uid
    updated_at       BIGINT  NOT NULL,          -- when it last became different
    seen_at          BIGINT  NOT NULL,          -- when it was last told
    PRIMARY KEY (cluster, namespace, name)
);

CREATE INDEX pod_by_node ON pod (cluster, node);

CREATE TABLE kube_node (
    cluster    TEXT   COLLATE "C" NOT NULL,
    name       TEXT   COLLATE "C" NOT NULL,
    region     TEXT   NOT NULL,                 -- empty where not said
    zone       TEXT   NOT NULL,                 -- empty where not said
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (cluster, name)
);

-- For people: a pod with where it runs.
CREATE VIEW pods AS
SELECT pod.cluster, pod.namespace, pod.name, pod.uid, pod.node, kube_node.region, kube_node.zone,
       pod.addresses::json AS addresses, pod.phase, pod.ready, pod.labels::json AS labels, pod.weight,
       pod.resource_version, pod.created_at, pod.first_seen_at, pod.updated_at, pod.seen_at
FROM pod
LEFT JOIN kube_node ON kube_node.cluster = pod.cluster AND kube_node.name = pod.node;

-- What happened to an Envoy; the order of ids is the order of events.
CREATE TABLE node_events (
    id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node   TEXT   COLLATE "C" NOT NULL,         -- node.id
    at     BIGINT NOT NULL,
    event  TEXT   NOT NULL,
    detail TEXT   NOT NULL
);

CREATE INDEX node_events_by_node ON node_events (node, id);

-- The last good content of each manifest file, served while the file itself is broken.
CREATE TABLE manifest_files (
    cluster    TEXT   COLLATE "C" NOT NULL,
    path       TEXT   COLLATE "C" NOT NULL,     -- relative to the manifests' folder
    sha256     TEXT   NOT NULL,                 -- of the content, in hexadecimal
    content    TEXT   NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (cluster, path)
);

-- Objects of clusters that are read from their API servers. Pods and Kubernetes nodes have tables of their own.
CREATE TABLE kube_object (
    cluster   TEXT COLLATE "C" NOT NULL,
    kind      TEXT COLLATE "C" NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL,        -- empty for kinds that belong to none
    name      TEXT COLLATE "C" NOT NULL,
    object    TEXT NOT NULL,                    -- in Causeway's own form, as JSON; no Secret is ever kept
    PRIMARY KEY (cluster, kind, namespace, name)
);

-- By which a cluster is told from another that answers at its address.
CREATE TABLE kube_cluster (
    cluster TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    uid     TEXT NOT NULL                       -- metadata.uid of its namespace kube-system
);
