-- Queries of backup and restore. They see whole tables, of all tenants. Names in braces are filled in as identifiers.

-- export_snapshot --
-- So that pg_dump reads the same moment.
SELECT pg_export_snapshot()

-- tables --
-- Tables that hold rows, parts of partitioned ones by themselves.
SELECT c.relname FROM pg_class c WHERE c.relnamespace = to_regnamespace('gleaner') AND c.relkind = 'r' ORDER BY c.relname

-- sendable_columns --
-- Each column with the function that gives its value as bytes: exact, and much smaller than as text for a vector.
SELECT a.attname, n.nspname, p.proname
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_proc p ON p.oid = t.typsend
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE a.attrelid = to_regclass('gleaner.' || quote_ident(%(table_name)s)) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attname

-- row_hash --
-- Rows, and the exclusive or over the SHA-256 of each: no order, and no two rows are equal, because each has a key.
SELECT count(*), bit_xor(('x' || encode(sha256({row_bytes}), 'hex'))::bit(256))::text FROM gleaner.{table_name} AS r

-- sequences --
-- Not of the snapshot: a sequence is never behind it.
SELECT s.sequencename, s.last_value FROM pg_sequences s WHERE s.schemaname = 'gleaner' ORDER BY s.sequencename

-- history --
-- What was applied, and when: no two databases share it, but copies do.
SELECT version, name, checksum, applied_at FROM gleaner.schema_migration ORDER BY version

-- server --
SELECT current_database(), current_setting('server_version_num')::integer

-- system_identifier --
-- Which cluster this is; not every host lets its users ask.
SELECT system_identifier::text FROM pg_control_system()

-- extension --
-- The pgvector that this database has, and where.
SELECT e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'

-- owners --
-- Of the schema and of all that is in it.
SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'gleaner'
UNION SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = to_regnamespace('gleaner')
UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = to_regnamespace('gleaner')
ORDER BY 1

-- may_own --
-- Whether this user may hand things over to all of those roles.
SELECT count(*) FILTER (WHERE pg_has_role(r.oid, 'MEMBER')) = cardinality(%(owners)s::text[])
FROM pg_roles r WHERE r.rolname = ANY (%(owners)s::text[])

-- schema_exists --
SELECT to_regnamespace(%(schema_name)s) IS NOT NULL

-- tenant_table --
SELECT to_regclass(%(schema_name)s || '.tenant') IS NOT NULL

-- has_tenants --
-- Whether there is anybody's knowledge: everything else hangs on a tenant.
SELECT EXISTS (SELECT 1 FROM {schema_name}.tenant)

-- dependents --
-- What other schemas have that hangs on this one, and would go with it.
SELECT format('%%s %%I.%%I', CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, n.nspname, c.relname)
FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class t ON d.refclassid = 'pg_class'::regclass AND t.oid = d.refobjid
LEFT JOIN pg_proc f ON d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid
WHERE coalesce(t.relnamespace, f.pronamespace) = to_regnamespace(%(schema_name)s)
  AND c.relnamespace <> to_regnamespace(%(schema_name)s)
UNION
SELECT format('foreign key of %%s', k.conrelid::regclass)
FROM pg_constraint k JOIN pg_class t ON t.oid = k.confrelid JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'f' AND t.relnamespace = to_regnamespace(%(schema_name)s)
  AND c.relnamespace <> to_regnamespace(%(schema_name)s)
ORDER BY 1

-- create_roles --
-- As migration 0007 does: grants and policies name them.
DO $$
DECLARE role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['gleaner_reader', 'gleaner_writer'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role_name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of the cluster was restored at this moment
        END;
    END LOOP;
END $$

-- create_extension --
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA {schema_name}

-- load_extension --
-- Without its library in the session nobody but a superuser may name its settings, as gleaner.search does.
SELECT '[1]'::{schema_name}.vector

-- create_extension_schema --
CREATE SCHEMA IF NOT EXISTS {schema_name}

-- set_aside --
-- Nobody notices: what runs goes on with the old tables until the end of the transaction.
ALTER SCHEMA gleaner RENAME TO gleaner_replaced

-- swap_patience --
SELECT set_config('lock_timeout', %(wait)s, true)

-- lock_replaced --
-- A schema that was never migrated has no such table.
DO $$
BEGIN
    IF to_regclass('gleaner_replaced.tenant') IS NOT NULL THEN
        LOCK TABLE gleaner_replaced.tenant IN ACCESS EXCLUSIVE MODE;
    END IF;
END $$

-- build_settings --
-- For the indexes of a large table. Pages go to the disk as they are written, and not all at once at the next checkpoint: others
-- wait for the disk too.
SELECT set_config('maintenance_work_mem', '512MB', true), set_config('max_parallel_maintenance_workers', '2', true),
       set_config('backend_flush_after', '256kB', true)

-- without_log --
-- For a trial, which is taken back in any case: its rows go past the server's log, behind which every writer would wait.
DO $$
DECLARE one regclass;
BEGIN
    FOR one IN SELECT oid FROM pg_class WHERE relnamespace = 'gleaner'::regnamespace AND relkind = 'r' AND relpersistence = 'p'
    LOOP
        EXECUTE format('ALTER TABLE %s SET UNLOGGED', one);
    END LOOP;
END $$

-- drop_replaced --
DROP SCHEMA gleaner_replaced CASCADE

-- analyze --
-- Searches weigh words by statistics, which a backup does not hold.
ANALYZE gleaner.{table_name}

-- size --
-- Bytes of the schema: of its rows, and with its indexes.
SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint, coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class c WHERE c.relnamespace = to_regnamespace('gleaner') AND c.relkind = 'r'

-- scratch_databases --
-- What trials of backups of this database have left, or are using.
SELECT d.datname FROM pg_database d WHERE d.datname LIKE %(pattern)s

-- scratch_prefix --
-- By the number of this database: others of the cluster have scratch databases of their own.
SELECT 'gleaner_scratch_' || oid || '_' FROM pg_database WHERE datname = current_database()

-- try_scratch --
-- Held while the scratch database is in use.
SELECT pg_try_advisory_lock(hashtextextended(%(name)s, 0))

-- release_scratch --
SELECT pg_advisory_unlock(hashtextextended(%(name)s, 0))

-- create_scratch --
-- From the usual template, which may have the extension already.
CREATE DATABASE {name}

-- drop_scratch --
DROP DATABASE IF EXISTS {name} WITH (FORCE)
