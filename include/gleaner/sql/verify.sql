-- Queries of `db verify`. %(tenant_id)s is one tenant, or null for all of them. They count rows, not what was noted of them.

-- has_tenant --
SELECT EXISTS (SELECT 1 FROM gleaner.tenant WHERE tenant_id = %(tenant_id)s)

-- sees_all --
-- Whether row-level security shows the user every tenant's rows. Without, each count would be of one tenant or none.
SELECT NOT row_security_active('gleaner.' || 'tenant_knowledge') OR pg_has_role('gleaner_writer', 'USAGE')

-- constraint --
-- The constraint as it is, and whether it and the index behind it are valid.
SELECT pg_get_constraintdef(c.oid), c.convalidated AND i.indisvalid AND i.indisunique
FROM pg_constraint c JOIN pg_index i ON i.indexrelid = c.conindid
WHERE c.conname = 'unique_chunk_per_source' AND c.contype = 'u'
  AND c.conrelid = to_regclass('gleaner.' || 'tenant_knowledge')

-- without_indexes --
-- Duplicates are counted in the table itself: an index that lost entries would not show them.
SELECT set_config('enable_indexscan', 'off', true), set_config('enable_indexonlyscan', 'off', true),
       set_config('enable_bitmapscan', 'off', true)

-- with_indexes --
SELECT set_config('enable_indexscan', 'on', true), set_config('enable_indexonlyscan', 'on', true),
       set_config('enable_bitmapscan', 'on', true)

-- duplicates --
-- Rows that are too many: of n rows with one key, n - 1.
SELECT coalesce(sum(copies - 1), 0)::bigint FROM (
    SELECT count(*) AS copies FROM gleaner.tenant_knowledge
    WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s
    GROUP BY tenant_id, source_id, chunk_type, chunk_index, embedding_model HAVING count(*) > 1) AS doubled

-- pages --
-- Pages whose content was read, those of them whose chunks are loaded, and those that nobody loads: fetched or read, and
-- no run of their website is under way. What only a dry run fetched waits for a real run.
WITH newest AS (
    SELECT DISTINCT ON (tenant_id, source_id) tenant_id, source_id,
           finished_at IS NULL AND started_at > now() - interval '12 hours' AS under_way,
           conf ->> 'dry_run' IS NOT DISTINCT FROM 'true' AS dry
    FROM gleaner.crawl_job
    WHERE kind = 'crawl' AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
    ORDER BY tenant_id, source_id, job_id DESC
)
SELECT count(*) FILTER (WHERE p.state IN ('completed', 'chunked')),
       count(*) FILTER (WHERE p.state = 'chunked'),
       count(*) FILTER (WHERE p.state IN ('fetched', 'completed') AND NOT coalesce(n.under_way OR n.dry, false)),
       count(*) FILTER (WHERE p.state IN ('fetched', 'completed') AND coalesce(n.under_way OR n.dry, false))
FROM gleaner.website_page p LEFT JOIN newest n USING (tenant_id, source_id)
WHERE %(tenant_id)s::text IS NULL OR p.tenant_id = %(tenant_id)s

-- chunks --
-- Chunks, and those of them that lack a vector.
SELECT count(*), count(*) FILTER (WHERE embedding IS NULL OR tldr_hash IS NOT NULL AND tldr_embedding IS NULL)
FROM gleaner.tenant_knowledge
WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s

-- stale_models --
-- Chunks of models that no reader sees: neither the tenant's, nor one whose rows were still written lately.
WITH built AS (
    SELECT tenant_id, embedding_model, max(updated_at) > now() - %(rebuilt_within)s::interval AS lately
    FROM gleaner.knowledge_generation
    WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s
    GROUP BY tenant_id, embedding_model
)
SELECT count(*) FROM gleaner.tenant_knowledge k
LEFT JOIN gleaner.tenant t USING (tenant_id)
LEFT JOIN built b USING (tenant_id, embedding_model)
WHERE (%(tenant_id)s::text IS NULL OR k.tenant_id = %(tenant_id)s)
  AND t.search_model IS DISTINCT FROM k.embedding_model
  AND (NOT coalesce(b.lately, false) OR t.previous_model IS NOT DISTINCT FROM k.embedding_model)

-- stale_chunks --
-- Chunks that readers see of a page that counts as chunked, from older content than it has.
SELECT coalesce(sum(g.chunk_count), 0)::bigint FROM gleaner.website_page p
JOIN gleaner.tenant t USING (tenant_id)
JOIN gleaner.knowledge_generation g
  ON g.tenant_id = p.tenant_id AND g.source_id = p.page_id AND g.embedding_model = t.search_model
WHERE p.state = 'chunked' AND g.generation < p.generation
  AND (%(tenant_id)s::text IS NULL OR p.tenant_id = %(tenant_id)s)

-- fences --
-- Pages with another number of chunks than their fence says, and chunked pages that have no fence under any model.
SELECT (
    SELECT count(*) FROM (
        SELECT tenant_id, source_id, embedding_model FROM (
            SELECT tenant_id, source_id, embedding_model, chunk_count AS told, 0 AS there
            FROM gleaner.knowledge_generation
            UNION ALL
            SELECT tenant_id, source_id, embedding_model, 0, 1 FROM gleaner.tenant_knowledge) AS both_sides
        WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s
        GROUP BY tenant_id, source_id, embedding_model HAVING sum(told) <> sum(there)) AS pages
) + (
    SELECT count(*) FROM gleaner.website_page p
    WHERE p.state = 'chunked' AND (%(tenant_id)s::text IS NULL OR p.tenant_id = %(tenant_id)s)
      AND NOT EXISTS (SELECT 1 FROM gleaner.knowledge_generation g
                      WHERE g.tenant_id = p.tenant_id AND g.source_id = p.page_id)
)

-- orphans --
-- Rows whose page is not there, and those of them whose page belongs to another tenant.
WITH row_of AS (
    SELECT tenant_id, source_id AS page_id FROM gleaner.tenant_knowledge
    UNION ALL SELECT tenant_id, source_id FROM gleaner.knowledge_generation
    UNION ALL SELECT tenant_id, page_id FROM gleaner.page_document
    UNION ALL SELECT tenant_id, page_id FROM gleaner.page_snapshot
    UNION ALL SELECT tenant_id, page_id FROM gleaner.dead_letter
)
SELECT count(*), count(*) FILTER (
    WHERE EXISTS (SELECT 1 FROM gleaner.website_page f WHERE f.page_id = r.page_id AND f.tenant_id <> r.tenant_id))
FROM row_of r LEFT JOIN gleaner.website_page p USING (tenant_id, page_id)
WHERE p.page_id IS NULL AND (%(tenant_id)s::text IS NULL OR r.tenant_id = %(tenant_id)s)

-- foreign_keys --
-- Tables that refer to a page or a website, with the number of valid references that they have.
SELECT c.relname, count(f.oid) FILTER (WHERE f.convalidated)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_constraint f ON f.conrelid = c.oid AND f.contype = 'f'
WHERE n.nspname = 'gleaner' AND c.relkind = 'r'
GROUP BY c.relname ORDER BY c.relname

-- indexes --
-- Every index of the schema, and whether it can be used. One that is being built at this moment is left out.
SELECT c.relname, i.indisvalid AND i.indisready FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'gleaner'
  AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index b WHERE b.index_relid = c.oid)
ORDER BY c.relname

-- unprotected --
-- Tables with a tenant in which row-level security is off or lacks a policy. Who may read whom is no tenant's row.
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
WHERE n.nspname = 'gleaner' AND c.relkind IN ('r', 'p') AND c.relname <> 'reader_tenant'
  AND (NOT c.relrowsecurity OR (
        SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname IN ('one_tenant', 'every_tenant')) < 2)
ORDER BY c.relname
