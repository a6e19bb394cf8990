-- What was last known of clusters that are read from their API servers, so that a restart serves it while one is gone.
-- Pods and Kubernetes nodes have tables of their own.

CREATE TABLE kube_object (
    cluster   TEXT NOT NULL,
    kind      TEXT NOT NULL,
    namespace TEXT NOT NULL,                    -- empty for kinds that belong to none
    name      TEXT NOT NULL,
    object    TEXT NOT NULL,                    -- in Causeway's own form, as JSON; no Secret is ever kept
    PRIMARY KEY (cluster, kind, namespace, name)
) STRICT, WITHOUT ROWID;

-- By which a cluster is told from another that answers at its address.
CREATE TABLE kube_cluster (
    cluster TEXT NOT NULL PRIMARY KEY,
    uid     TEXT NOT NULL                       -- metadata.uid of its namespace kube-system
) STRICT, WITHOUT ROWID;
