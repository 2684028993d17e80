-- What was destroyed here is told from what never was here: who is sent to another share
-- store, or to a copy from before, finds nothing to destroy and must not say that it did.

ALTER TABLE key_share
  ALTER COLUMN share DROP NOT NULL,
  ADD COLUMN destroyed_at timestamptz,
  ADD CHECK ((share IS NULL) = (destroyed_at IS NOT NULL));
-- One row that was destroyed is more than none, and so is vacuumed.
ALTER TABLE key_share SET (autovacuum_vacuum_threshold = 0);
REVOKE DELETE ON key_share FROM postern_service;
GRANT UPDATE (share, destroyed_at) ON key_share TO postern_service;

-- A share may go, and nothing may come in its place.
CREATE FUNCTION share_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.share IS NOT NULL AND NEW.share IS DISTINCT FROM OLD.share THEN
    RAISE EXCEPTION 'a share is final'
      USING ERRCODE = 'insufficient_privilege';  -- as without the grant
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER share_is_final BEFORE UPDATE OF share ON key_share
  FOR EACH ROW EXECUTE FUNCTION share_is_final();
REVOKE ALL ON FUNCTION share_is_final() FROM PUBLIC;
