-- Queries of the migration runner.

-- watch_client --
-- A runner that was killed must not hold its locks until its statement is over.
SELECT set_config('client_connection_check_interval', '2s', false)

-- no_timeouts --
-- What a role or database has set for queries of an application is not meant for a migration, a backup or a restore.
SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false),
       set_config('idle_in_transaction_session_timeout', '0', false)

-- try_lock --
-- One runner at a time. Polled: a blocking lock would deadlock with CREATE INDEX CONCURRENTLY.
SELECT pg_try_advisory_lock(hashtextextended('gleaner.schema_migration', 0))

-- unlock --
SELECT pg_advisory_unlock(hashtextextended('gleaner.schema_migration', 0))

-- lock_holder --
-- Who the others wait for.
SELECT a.pid, a.application_name, a.backend_start
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended('gleaner.schema_migration', 0)

-- table_users --
-- Whose open transactions hold tables of the schema, the oldest first.
SELECT a.pid, a.application_name, min(a.xact_start) AS began
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_class c ON c.oid = l.relation
WHERE l.granted AND c.relnamespace = to_regnamespace('gleaner') AND a.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND a.xact_start < now() - interval '1 second'
GROUP BY a.pid, a.application_name ORDER BY began LIMIT 5

-- lock_timeout --
-- For this transaction: how long it waits for a table.
SELECT set_config('lock_timeout', %(wait)s, true)

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

-- index_is_valid --
-- A build that was killed leaves an index that is not valid, which IF NOT EXISTS would take for one.
SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass('gleaner.' || quote_ident(%(index_name)s))

-- drop_index --
DROP INDEX CONCURRENTLY IF EXISTS gleaner.{index_name}

-- may_write --
-- Whether row-level security lets the user see and write all rows: an owner's does, and a member of gleaner_writer.
SELECT NOT row_security_active('gleaner.tenant_knowledge') OR pg_has_role('gleaner_writer', 'USAGE')

-- columns --
-- Every table of the schema with its columns and their defaults; what a crash may empty is not kept either.
SELECT c.relname, a.attname, pg_get_expr(d.adbin, d.adrelid)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated = ''
WHERE c.relnamespace = to_regnamespace('gleaner') AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
  AND c.relname <> 'schema_migration' AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum

-- changed_rows --
-- How many rows this transaction has deleted and updated so far.
SELECT relname, n_tup_del + n_tup_upd FROM pg_stat_xact_user_tables
WHERE schemaname = 'gleaner' AND relname <> 'schema_migration'

-- lock_table --
-- Nobody writes between the look and the removal.
LOCK TABLE gleaner.{table_name} IN ACCESS EXCLUSIVE MODE

-- has_rows --
SELECT EXISTS (SELECT 1 FROM gleaner.{table_name})

-- has_values --
-- Whether a column says anything that its default does not.
SELECT EXISTS (SELECT 1 FROM gleaner.{table_name} WHERE {column_name} IS DISTINCT FROM {default_value})
