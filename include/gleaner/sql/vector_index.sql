-- Queries of the HNSW indexes, one for each model. A model belongs to no tenant. Names in braces are filled in as
-- identifiers and literals, because neither can be bound.

-- try_lock --
-- One builder at a time in the whole fleet. Polled: a blocking lock and CREATE INDEX CONCURRENTLY deadlock.
SELECT pg_try_advisory_lock(hashtext('gleaner.vector_index'))

-- unlock --
SELECT pg_advisory_unlock(hashtext('gleaner.vector_index'))

-- rows_of_model --
-- By the fences, which are a fraction of the rows.
SELECT coalesce(sum(chunk_count), 0)::bigint FROM gleaner.knowledge_generation WHERE embedding_model = %(model)s

-- known --
SELECT dimensions, kind, index_name, built_at IS NOT NULL FROM gleaner.vector_index WHERE embedding_model = %(model)s

-- indexed_dimensions --
-- Of the model's index, while anybody has rows of the model.
SELECT i.dimensions FROM gleaner.vector_index i
WHERE i.embedding_model = %(model)s AND i.dimensions <> %(dimensions)s
  AND EXISTS (SELECT FROM gleaner.knowledge_generation g WHERE g.embedding_model = i.embedding_model AND g.chunk_count > 0)

-- all_known --
SELECT embedding_model, index_name FROM gleaner.vector_index ORDER BY embedding_model

-- relied_on --
-- Indexes that searches use.
SELECT index_name FROM gleaner.vector_index WHERE built_at IS NOT NULL ORDER BY index_name

-- is_valid --
-- A build that was killed leaves an index that is not valid, which IF NOT EXISTS would take for one.
SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass('gleaner.' || quote_ident(%(index_name)s))

-- announce --
-- The index is not used until it is confirmed.
INSERT INTO gleaner.vector_index (embedding_model, dimensions, kind, index_name)
VALUES (%(model)s, %(dimensions)s, %(kind)s, %(index_name)s)
ON CONFLICT (embedding_model) DO UPDATE
SET dimensions = excluded.dimensions, kind = excluded.kind, index_name = excluded.index_name, built_at = NULL

-- confirm --
UPDATE gleaner.vector_index SET built_at = now()
WHERE embedding_model = %(model)s AND index_name = %(index_name)s AND built_at IS NULL

-- retract --
-- From here on searches compare chunk by chunk.
UPDATE gleaner.vector_index SET built_at = NULL WHERE embedding_model = %(model)s

-- forget --
DELETE FROM gleaner.vector_index WHERE embedding_model = %(model)s

-- build_settings --
-- No time limit: a build takes minutes. Locks it cannot get at once it waits for, as concurrent builds do.
SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false),
       set_config('maintenance_work_mem', %(memory)s, false),
       set_config('max_parallel_maintenance_workers', %(workers)s, false)

-- usual_settings --
SELECT set_config('statement_timeout', %(statement_timeout)s, false), set_config('lock_timeout', %(lock_timeout)s, false)

-- timeouts --
SELECT current_setting('statement_timeout'), current_setting('lock_timeout')

-- was_analyzed --
-- Whether the planner has ever looked at the table; until then no word is known to be more common than another.
SELECT reltuples >= 0 FROM pg_class WHERE oid = 'gleaner.tenant_knowledge'::regclass

-- analyze --
ANALYZE gleaner.tenant_knowledge

-- create_index --
CREATE INDEX CONCURRENTLY {index_name} ON gleaner.tenant_knowledge
USING hnsw ((embedding::{kind}({dimensions})) {operators}) WHERE embedding_model = {model}

-- drop_index --
DROP INDEX CONCURRENTLY IF EXISTS gleaner.{index_name}
