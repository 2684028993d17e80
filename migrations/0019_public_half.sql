-- The public half of a key pair belongs to one version: that of a new value is in force once
-- it is handed out. public_half stays what it was, that of the value that a running rotation
-- made; the one in force is kept beside it. NULL: written by a release of before, which kept
-- one half for both.
ALTER TABLE credential_rotation
  ADD COLUMN current_public_half text CHECK (octet_length(current_public_half) <= 8192),
  ADD COLUMN public_version      integer;
