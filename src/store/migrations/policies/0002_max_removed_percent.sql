-- How much of what is in service one decision may take away, in percent; 100 is no limit.
ALTER TABLE policy_version ADD COLUMN max_removed_percent INTEGER NOT NULL DEFAULT 100
    CHECK (max_removed_percent BETWEEN 1 AND 100);

DROP VIEW policies;

-- For people: each policy's versions, and which of them is in force.
CREATE VIEW policies AS
SELECT policy.name, policy_version.number, policy.active IS policy_version.number AS active, component.world,
       component.digest, component.size, policy_version.config, policy_version.fuel, policy_version.memory_mib,
       policy_version.max_removed_percent, policy_version.on_failure, policy_version.uploaded_at
FROM policy
JOIN policy_version ON policy_version.policy = policy.name
JOIN component ON component.digest = policy_version.digest;
