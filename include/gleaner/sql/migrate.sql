-- Queries of the migration runner.

-- try_lock --
-- One runner at a time. Polled: a blocking lock would deadlock with CREATE INDEX CONCURRENTLY.
SELECT pg_try_advisory_lock(hashtextextended('gleaner.schema_migration', 0))

-- unlock --
SELECT pg_advisory_unlock(hashtextextended('gleaner.schema_migration', 0))

-- has_table --
-- Whether anything was ever applied here.
SELECT to_regclass('gleaner.schema_migration') IS NOT NULL

-- create_table --
-- What the runner itself needs.
CREATE SCHEMA IF NOT EXISTS gleaner;
CREATE TABLE IF NOT EXISTS gleaner.schema_migration (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE gleaner.schema_migration IS 'Applied migrations. A file that is listed here must not change any more.'

-- applied --
SELECT version, name, checksum FROM gleaner.schema_migration ORDER BY version

-- record --
INSERT INTO gleaner.schema_migration (version, name, checksum)
VALUES (%(version)s, %(name)s, %(checksum)s)

-- forget --
DELETE FROM gleaner.schema_migration WHERE version = %(version)s

-- vector_available --
-- Whether the server has pgvector installed, and in which version.
SELECT default_version FROM pg_available_extensions WHERE name = 'vector'

-- may_write --
-- Whether row-level security lets the user see and write all rows: an owner's does, and a member of gleaner_writer.
SELECT NOT row_security_active('gleaner.tenant_knowledge') OR pg_has_role('gleaner_writer', 'USAGE')
