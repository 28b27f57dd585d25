-- Queries over every table that has a tenant, whichever there are: a table that is added later is not left out.
-- {table} is filled in as an identifier, because it cannot be bound.

-- tables --
-- Those that refer to others before those that are referred to; the counts of the others' rows, which change with them, last.
-- What may not be deleted from goes by a cascade.
WITH RECURSIVE found AS (
    SELECT c.oid, c.relname FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE c.relnamespace = to_regnamespace('gleaner') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
), depth AS (
    SELECT oid, 0 AS steps FROM found
    UNION ALL
    SELECT f.confrelid, d.steps + 1 FROM depth d
    JOIN pg_constraint f ON f.conrelid = d.oid AND f.contype = 'f' AND f.confrelid <> f.conrelid
    WHERE d.steps < 32
)
SELECT f.relname, has_table_privilege(f.oid, 'DELETE') FROM found f JOIN depth d USING (oid)
GROUP BY f.oid, f.relname ORDER BY f.relname LIKE 'metric%%', max(d.steps), f.relname

-- delete_some --
DELETE FROM gleaner.{table} WHERE tenant_id = %(tenant_id)s AND ctid = ANY(ARRAY(
    SELECT ctid FROM gleaner.{table} WHERE tenant_id = %(tenant_id)s LIMIT %(most)s))

-- has_rows --
SELECT EXISTS (SELECT FROM gleaner.{table} WHERE tenant_id = %(tenant_id)s)

-- rows --
-- For the export: every column, as JSON.
SELECT to_jsonb(t)::text FROM gleaner.{table} AS t WHERE t.tenant_id = %(tenant_id)s

-- snapshot --
-- All tables of an export as they are at one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY
