-- Whether a Policy object says what the policy is: then only the object changes it.
ALTER TABLE policy ADD COLUMN declared INTEGER NOT NULL DEFAULT 0;
-- Where a version's bytes came from: `upload`, or what the object's source says.
ALTER TABLE policy_version ADD COLUMN source TEXT NOT NULL DEFAULT 'upload';
-- The key by which somebody signed it, where a signature was verified.
ALTER TABLE policy_version ADD COLUMN signed_by TEXT;
