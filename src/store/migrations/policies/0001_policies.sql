-- Policies that were uploaded. All times are milliseconds since the Unix epoch.

-- A component, once for all policies and versions that have it.
CREATE TABLE component (
    digest TEXT    NOT NULL PRIMARY KEY,        -- `sha256:` and 64 hexadecimal digits, of the bytes
    world  TEXT    NOT NULL CHECK (world IN ('lb-policy', 'vip-policy')),
    size   INTEGER NOT NULL CHECK (size = length(bytes)),
    bytes  BLOB    NOT NULL
) STRICT;

CREATE TABLE policy (
    name   TEXT    NOT NULL PRIMARY KEY CHECK (name <> ''),
    active INTEGER,                             -- the version in force; NULL where none is
    before INTEGER                              -- the one that was before it, for a way back
) STRICT;

-- What a policy was at some time: a component and its settings.
CREATE TABLE policy_version (
    policy      TEXT    NOT NULL REFERENCES policy (name) ON DELETE CASCADE,
    number      INTEGER NOT NULL CHECK (number > 0),    -- in the order of uploads; never used again
    digest      TEXT    NOT NULL REFERENCES component (digest),
    config      TEXT    NOT NULL CHECK (json_valid(config)),
    fuel        INTEGER NOT NULL CHECK (fuel > 0),      -- instructions of a call
    memory_mib  INTEGER NOT NULL CHECK (memory_mib > 0),
    on_failure  TEXT    NOT NULL CHECK (on_failure IN ('KeepLast', 'Default')),
    uploaded_at INTEGER NOT NULL,
    PRIMARY KEY (policy, number)
) STRICT;

CREATE INDEX policy_version_by_digest ON policy_version (digest);

-- For people: each policy's versions, and which of them is in force.
CREATE VIEW policies AS
SELECT policy.name, policy_version.number, policy.active IS policy_version.number AS active, component.world,
       component.digest, component.size, policy_version.config, policy_version.fuel, policy_version.memory_mib,
       policy_version.on_failure, policy_version.uploaded_at
FROM policy
JOIN policy_version ON policy_version.policy = policy.name
JOIN component ON component.digest = policy_version.digest;
