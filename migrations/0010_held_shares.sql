-- Keys that demand a share which only the tenant's key holder has.

-- Which share this KEK seals with: a hash of it. NULL: none. It is bound to how the
-- KEK is wrapped, so a KEK whose mark was taken away does not open.
ALTER TABLE kek ADD COLUMN held_check bytea CHECK (octet_length(held_check) = 32);

-- How often the key holder has sealed the tenant. A replica uses a share only while
-- this is what it was when the share was given.
ALTER TABLE tenant ADD COLUMN seals bigint NOT NULL DEFAULT 0 CHECK (seals >= 0);
GRANT UPDATE (seals) ON tenant TO postern_service;
