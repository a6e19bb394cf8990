-- Which address is given to whom. All times are milliseconds since the Unix epoch.
CREATE TABLE ledger (
    address      TEXT    NOT NULL PRIMARY KEY,  -- the VIP, in its canonical text form
    slot         TEXT    NOT NULL UNIQUE,       -- what it is given to: access, service, pod, family, node
    pool         TEXT    NOT NULL,
    access       TEXT    NOT NULL,              -- namespace/name
    service      TEXT    NOT NULL,              -- namespace/name
    pod          TEXT,                          -- where VIPs are per pod
    family       TEXT    NOT NULL CHECK (family IN ('IPv4', 'IPv6')),
    node         TEXT,                          -- the gateway, where its agent assigned the address
    phase        TEXT    NOT NULL CHECK (phase <> ''),
    since        INTEGER,                       -- when the phase began, where that matters
    ports        TEXT    NOT NULL CHECK (json_valid(ports)),
    ttl_seconds  INTEGER NOT NULL CHECK (ttl_seconds >= 0),
    assigned_by  TEXT    NOT NULL,
    allocated_at INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
