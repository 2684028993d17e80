-- A version that an emergency deleted: its owner does not bring it back, an admin may.

ALTER TABLE credential_version
  ADD COLUMN withdrawn boolean NOT NULL DEFAULT false,
  -- Programs of before this migration, which do not know of it, do not bring it back either.
  ADD CHECK (NOT withdrawn OR deleted_at IS NOT NULL);
GRANT UPDATE (withdrawn) ON credential_version TO postern_service;
