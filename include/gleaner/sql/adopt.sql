-- Queries of `db adopt`: an older table of chunks that is none of Gleaner's. Names and types in braces are filled in as
-- identifiers, because they cannot be bound.

-- try_lock --
-- One adoption of a table at a time. Polled: a blocking lock and CREATE INDEX CONCURRENTLY deadlock.
SELECT pg_try_advisory_lock(hashtextextended('gleaner.adopt ' || %(table)s, 0))

-- unlock --
SELECT pg_advisory_unlock(hashtextextended('gleaner.adopt ' || %(table)s, 0))

-- relation --
-- What the name stands for, whether the user may change it, and how large it is by the planner's estimate.
SELECT c.oid, c.relkind::text, pg_has_role(c.relowner, 'USAGE'), greatest(c.reltuples, 0)::bigint
FROM pg_class c WHERE c.oid = to_regclass(%(table)s)

-- columns --
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped ORDER BY attnum

-- primary_key --
SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = %(oid)s AND i.indisprimary ORDER BY a.attnum

-- referring --
-- Tables that refer to rows of this one.
SELECT conrelid::regclass::text FROM pg_constraint WHERE confrelid = %(oid)s AND contype = 'f' ORDER BY 1

-- constraint --
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %(oid)s AND conname = %(name)s

-- name_taken_by --
-- The other table of the schema whose constraint has the name: the index behind it needs a name of its own in the schema.
SELECT coalesce(i.indrelid, c.oid)::regclass::text FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.oid = to_regclass(%(name)s) AND coalesce(i.indrelid, c.oid) <> %(oid)s

-- own_indexes --
-- Those that an earlier try made, and whether they are whole.
SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %(oid)s AND starts_with(c.relname, 'gleaner_adopt_') ORDER BY c.relname

-- settings --
-- A lookup by the index and nothing else, whatever the planner knows of a table that was never analyzed. The search path is
-- that of the trigger too: nothing but the server's own names and pgvector's operators. Locks are not held while the disk is
-- waited for: what a crash of the server takes back, row and line together, is done again. An index is built by one process:
-- the other processors are the writers'. Pages go to the disk as they are written, and not all at once at the next checkpoint.
SELECT set_config('lock_timeout', '0', false), set_config('statement_timeout', '0', false),
       set_config('maintenance_work_mem', '256MB', false), set_config('max_parallel_maintenance_workers', '0', false),
       set_config('enable_seqscan', 'off', false),
       set_config('enable_bitmapscan', 'off', false), set_config('enable_hashagg', 'off', false),
       set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false),
       set_config('jit', 'off', false), set_config('synchronous_commit', 'off', false),
       set_config('backend_flush_after', '256kB', false),
       set_config('search_path', 'pg_catalog, ' || coalesce((
           SELECT quote_ident(n.nspname) || ', ' FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
           WHERE e.extname = 'vector'), '') || 'pg_temp', false)

-- create_removed --
-- Where rows go that are removed, as they were, with the reason. One that said the same as the row that stays leaves its vectors
-- to that: they are most of what would be written.
CREATE TABLE IF NOT EXISTS {removed} (
    LIKE {table},
    gleaner_kept_id    {id_type}   NOT NULL,
    gleaner_reason     text        NOT NULL CHECK (gleaner_reason IN ('identical', 'older')),
    gleaner_removed_at timestamptz NOT NULL
)

-- needed_vectors --
-- Those columns of the table of removed rows that may not be empty.
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass(%(removed)s) AND attname = ANY (%(vectors)s) AND attnotnull AND NOT attisdropped

-- let_vectors_go --
ALTER TABLE {removed} {nullable_vectors}

-- is_ours --
-- Whether the table of removed rows was made by an adoption.
SELECT EXISTS (SELECT 1 FROM pg_attribute
               WHERE attrelid = to_regclass(%(removed)s) AND attname = 'gleaner_reason' AND NOT attisdropped)

-- create_lookup --
CREATE INDEX CONCURRENTLY {index} ON {table} ({key}, {id})

-- create_superseder --
-- From here on a new row does at once what `remove` does later: rows of its key that are not newer make way for it. A rival that
-- is about to do the same is waited for, and then looked at again.
CREATE OR REPLACE FUNCTION {superseder}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $body$
DECLARE found_rows integer;
BEGIN
    LOOP
        WITH gone AS (
            DELETE FROM {table} o WHERE ({o_key}) = ({new_key}) AND {o_age} <= {new_age} RETURNING o.*
        ), judged AS (
            SELECT o.*, CASE WHEN ({old_content}) IS NOT DISTINCT FROM ({trigger_content})
                             THEN 'identical' ELSE 'older' END AS gleaner_reason
            FROM gone o
        )
        INSERT INTO {removed} SELECT {kept_values}, NEW.{id}, o.gleaner_reason, clock_timestamp() FROM judged o;
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        EXIT WHEN found_rows = 0;
    END LOOP;
    RETURN NEW;
END $body$

-- create_trigger --
CREATE OR REPLACE TRIGGER gleaner_adopt_supersede BEFORE INSERT ON {table}
FOR EACH ROW EXECUTE FUNCTION {superseder}()

-- drop_trigger --
DROP TRIGGER IF EXISTS gleaner_adopt_supersede ON {table}

-- drop_superseder --
DROP FUNCTION IF EXISTS {superseder}()

-- has_trigger --
SELECT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = %(oid)s AND tgname = 'gleaner_adopt_supersede')

-- create_unique --
CREATE UNIQUE INDEX CONCURRENTLY {index} ON {table} ({key})

-- drop_index --
DROP INDEX CONCURRENTLY IF EXISTS {schema}.{index}

-- short_lock --
-- Whoever comes while this waits for its lock waits behind it, and no longer than this.
SELECT set_config('lock_timeout', '40ms', true)

-- add_constraint --
ALTER TABLE {table} ADD CONSTRAINT {constraint} UNIQUE USING INDEX {index}

-- blockers --
-- Who holds the table, the longest transaction first.
SELECT a.pid, extract(epoch FROM now() - a.xact_start)::int FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.relation = %(oid)s AND l.granted AND a.pid <> pg_backend_pid()
GROUP BY a.pid, a.xact_start ORDER BY a.xact_start LIMIT 5

-- duplicated_keys --
-- The next keys that several rows have, behind the last one looked at. Rows that lack a part of the key are nobody's double.
SELECT {key} FROM {table} WHERE {present} AND {behind}
GROUP BY {key} HAVING count(*) > 1 ORDER BY {key} LIMIT %(limit)s

-- remove --
-- Of each key all rows but the newest, as it is after whoever changed it last. Rows that a writer holds at this moment are
-- left for the next pass: nobody is waited for.
WITH wanted AS (
    SELECT * FROM unnest({arrays}) AS w ({key})
), held AS MATERIALIZED (
    SELECT t.* FROM wanted w JOIN {table} t ON ({t_key}) = ({w_key})
    ORDER BY {t_key}, t.{id} FOR UPDATE OF t SKIP LOCKED
), ranked AS (
    SELECT {id} AS id, first_value({id}) OVER same AS kept, row_number() OVER same AS place
    FROM held WINDOW same AS (PARTITION BY {key} ORDER BY {age} DESC, {id} DESC)
), judged AS (
    SELECT r.id, r.kept, CASE WHEN ({old_content}) IS NOT DISTINCT FROM ({new_content})
                              THEN 'identical' ELSE 'older' END AS reason
    FROM ranked r JOIN held o ON o.{id} = r.id JOIN held n ON n.{id} = r.kept
    WHERE r.place > 1
), gone AS (
    DELETE FROM {table} t USING judged j WHERE t.{id} = j.id
    RETURNING t.*, j.kept AS gleaner_kept_id, j.reason AS gleaner_reason
)
INSERT INTO {removed} SELECT {kept_values}, o.gleaner_kept_id, o.gleaner_reason, now() FROM gone o RETURNING gleaner_reason

-- log_end --
-- Where the server's log ends, in bytes.
SELECT pg_current_wal_insert_lsn() - '0/0'

-- write_log --
-- A transaction of nothing, whose end waits until the disk has the log up to it.
SELECT set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, 'gleaner.adopt', '')

-- count_rows --
-- Rows, those that are too many for the constraint, and those that lack a part of the key.
SELECT coalesce(sum(copies), 0)::bigint, coalesce(sum(copies - 1) FILTER (WHERE whole), 0)::bigint,
       coalesce(sum(copies) FILTER (WHERE NOT whole), 0)::bigint
FROM (SELECT count(*) AS copies, {present} AS whole FROM {table} GROUP BY {key}) AS keys

-- count_removed --
SELECT count(*) FILTER (WHERE gleaner_reason = 'identical'), count(*) FILTER (WHERE gleaner_reason = 'older')
FROM {removed}

-- removed_lines --
-- Which rows were removed, for which, and why.
SELECT {id}, gleaner_kept_id, gleaner_reason, gleaner_removed_at, {key} FROM {removed}
ORDER BY gleaner_removed_at, {id}
