-- What a migration needs, looked at before it begins. About the database as a whole, not about a tenant.

-- server --
SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(), current_setting('server_encoding')

-- pgvector --
-- What is installed in this database, and what the server could install.
SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')

-- may_create_extension --
-- Only asked while it is not installed: a superuser may, and everybody who may create where it is trusted.
SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
    OR EXISTS (SELECT 1 FROM pg_available_extension_versions WHERE name = 'vector' AND trusted)
       AND has_database_privilege(current_database(), 'CREATE')

-- owns_schema --
-- Null: there is no schema yet. An owner of all of it may change it.
SELECT bool_and(pg_has_role(o.owner, 'USAGE')) FROM (
    SELECT nspowner AS owner FROM pg_namespace WHERE nspname = 'gleaner'
    UNION ALL SELECT relowner FROM pg_class WHERE relnamespace = to_regnamespace('gleaner') AND relkind IN ('r', 'p', 'S')
) AS o

-- may_create_schema --
SELECT has_database_privilege(current_database(), 'CREATE')

-- may_create_roles --
-- Or they are there already.
SELECT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user)
    OR (SELECT count(*) = 2 FROM pg_roles WHERE rolname IN ('gleaner_reader', 'gleaner_writer'))

-- data_directory --
-- Null for users who may not know.
SELECT setting FROM pg_settings WHERE name = 'data_directory'

-- server_address --
-- Null over a Unix socket.
SELECT host(inet_server_addr())

-- largest_table --
-- Bytes of the largest table with its indexes: what a migration may have to write once more.
SELECT coalesce(max(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class c WHERE c.relnamespace = to_regnamespace('gleaner') AND c.relkind = 'r'
