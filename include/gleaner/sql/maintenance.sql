-- Queries of maintain_knowledge. %(tenant_id)s is one tenant, or null for all of them.

-- batches_without_vectors --
-- Loaded pages with chunks that wait for their vectors, in batches of one source each; tenants in fair turns, so that
-- the first batch of each tenant comes before anybody's second. What the endpoint refused is asked again when it is due,
-- and whose rest of the month's quota covers none of his texts takes nobody's turn: a rest there nearly always is.
WITH quota AS MATERIALIZED (
    SELECT t.tenant_id, t.monthly_token_quota - coalesce((
               SELECT sum(u.tokens) FROM gleaner.embedding_usage u
               WHERE u.tenant_id = t.tenant_id AND u.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date), 0) AS rest
    FROM gleaner.tenant t WHERE t.monthly_token_quota IS NOT NULL
), waiting AS (
    SELECT DISTINCT k.tenant_id, k.source_id AS page_id
    FROM gleaner.tenant_knowledge k
    WHERE k.embedding_model = %(model)s
      AND (k.embedding IS NULL OR (k.tldr_hash IS NOT NULL AND k.tldr_embedding IS NULL))
      AND (%(tenant_id)s::text IS NULL OR k.tenant_id = %(tenant_id)s)
      AND NOT EXISTS (
            SELECT 1 FROM gleaner.dead_letter d
            WHERE d.tenant_id = k.tenant_id AND d.stage = 'embed' AND d.page_id = k.source_id
              AND d.item = k.chunk_type || '/' || k.chunk_index AND d.resolved_at IS NULL
              AND NOT gleaner.is_due(d.attempts, d.last_at, %(first_delay)s, %(last_attempt)s))
      AND NOT EXISTS (SELECT FROM quota q WHERE q.tenant_id = k.tenant_id AND q.rest < greatest(k.token_count, 1))
), wanted AS (
    SELECT array_agg(p.tenant_id) AS tenants, array_agg(p.source_id) AS sources, array_agg(p.page_id) AS pages
    FROM waiting w JOIN gleaner.website_page p USING (tenant_id, page_id)
    JOIN gleaner.page_document d USING (tenant_id, page_id, generation)
    WHERE p.state = 'chunked'
)
SELECT part.* FROM wanted w, gleaner.in_parts(w.tenants, w.sources, w.pages, %(size)s) AS part
LIMIT %(batches)s

-- parts_to_mend --
-- Pages with content that no run loads any more: it died, or they failed and are due for another try. Those of a run under way
-- are its own, and what only a dry run fetched waits for a real one. Ranges of one source each, tenants in fair turns.
WITH waiting AS (
    SELECT p.tenant_id, p.source_id, p.page_id
    FROM gleaner.website_page p
    WHERE p.state IN ('fetched', 'completed', 'failed') AND p.generation IS NOT NULL
      AND (%(tenant_id)s::text IS NULL OR p.tenant_id = %(tenant_id)s)
      AND NOT EXISTS (
            SELECT 1 FROM gleaner.dead_letter d
            WHERE d.tenant_id = p.tenant_id AND d.page_id = p.page_id AND d.stage IN ('process', 'load')
              AND d.item = '' AND d.resolved_at IS NULL
              AND NOT gleaner.is_due(d.attempts, d.last_at, %(first_delay)s, %(last_attempt)s))
      AND (SELECT (j.finished_at IS NOT NULL OR j.started_at < now() - interval '12 hours')
                  AND j.conf ->> 'dry_run' IS DISTINCT FROM 'true'
           FROM gleaner.crawl_job j
           WHERE j.tenant_id = p.tenant_id AND j.source_id = p.source_id AND j.kind = 'crawl'
           ORDER BY j.job_id DESC LIMIT 1)
)
SELECT part.*
FROM (SELECT array_agg(tenant_id) AS tenants, array_agg(source_id) AS sources, array_agg(page_id) AS pages FROM waiting) w,
     gleaner.in_parts(w.tenants, w.sources, w.pages, %(size)s) AS part
LIMIT %(batches)s

-- snapshots_to_mend --
-- Newest bytes of the pages of a part that wait to be read, or failed and are due.
SELECT p.page_id, p.url, p.generation, s.body, s.content_type
FROM gleaner.website_page p
JOIN gleaner.page_snapshot s USING (tenant_id, page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state IN ('fetched', 'failed')
  AND p.page_id BETWEEN %(first_page)s AND %(last_page)s AND p.page_id > %(after)s
  AND NOT EXISTS (
        SELECT 1 FROM gleaner.dead_letter d
        WHERE d.tenant_id = p.tenant_id AND d.page_id = p.page_id AND d.stage = 'process' AND d.item = ''
          AND d.resolved_at IS NULL AND NOT gleaner.is_due(d.attempts, d.last_at, %(first_delay)s, %(last_attempt)s))
ORDER BY p.page_id
LIMIT %(limit)s

-- documents_to_mend --
-- Documents of the pages of a part that wait to be loaded, or failed and are due.
SELECT p.page_id, p.url, d.generation, d.document, d.dropped
FROM gleaner.website_page p
JOIN gleaner.page_document d USING (tenant_id, page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state = 'completed'
  AND p.page_id BETWEEN %(first_page)s AND %(last_page)s AND p.page_id > %(after)s
  AND NOT EXISTS (
        SELECT 1 FROM gleaner.dead_letter l
        WHERE l.tenant_id = p.tenant_id AND l.page_id = p.page_id AND l.stage = 'load' AND l.item = ''
          AND l.resolved_at IS NULL AND NOT gleaner.is_due(l.attempts, l.last_at, %(first_delay)s, %(last_attempt)s))
ORDER BY p.page_id
LIMIT %(limit)s

-- given_up --
-- Failures that nobody tries again by himself: the last try was too much.
SELECT count(*)::int FROM gleaner.dead_letter d
WHERE d.resolved_at IS NULL AND d.stage <> 'crawl' AND d.attempts >= %(last_attempt)s
  AND (%(tenant_id)s::text IS NULL OR d.tenant_id = %(tenant_id)s)

-- newest_job --
-- Whose way of cutting the pages of the source were loaded by.
SELECT job_id, conf -> 'chunk' FROM gleaner.crawl_job
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND crawled_at IS NOT NULL
  AND kind = 'crawl'
ORDER BY job_id DESC LIMIT 1

-- documents_without_vectors --
-- Documents of loaded pages with chunks that wait for their vectors.
SELECT p.page_id, p.url, d.generation, d.document, d.dropped
FROM gleaner.website_page p
JOIN gleaner.page_document d USING (tenant_id, page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state = 'chunked'
  AND p.page_id BETWEEN %(first_page)s AND %(last_page)s AND p.page_id > %(after)s
  AND EXISTS (
        SELECT 1 FROM gleaner.tenant_knowledge k
        WHERE k.tenant_id = p.tenant_id AND k.source_id = p.page_id AND k.embedding_model = %(model)s
          AND (k.embedding IS NULL OR (k.tldr_hash IS NOT NULL AND k.tldr_embedding IS NULL))
          AND NOT EXISTS (
                SELECT 1 FROM gleaner.dead_letter d
                WHERE d.tenant_id = k.tenant_id AND d.stage = 'embed' AND d.page_id = k.source_id
                  AND d.item = k.chunk_type || '/' || k.chunk_index AND d.resolved_at IS NULL
                  AND NOT gleaner.is_due(d.attempts, d.last_at, %(first_delay)s, %(last_attempt)s)))
ORDER BY p.page_id
LIMIT %(limit)s

-- missing_vectors --
-- Chunks without their vectors: how many, and of how many tenants.
SELECT count(*)::int, count(DISTINCT k.tenant_id)::int FROM gleaner.tenant_knowledge k
WHERE k.embedding_model = %(model)s
  AND (k.embedding IS NULL OR (k.tldr_hash IS NOT NULL AND k.tldr_embedding IS NULL))
  AND (%(tenant_id)s::text IS NULL OR k.tenant_id = %(tenant_id)s)

-- not_chunked --
-- Pages with content that are not chunked. Those of a run that is under way are among them.
SELECT count(*)::int FROM gleaner.website_page p
WHERE p.state IN ('fetched', 'completed') AND (%(tenant_id)s::text IS NULL OR p.tenant_id = %(tenant_id)s)

-- constraint_definition --
SELECT pg_get_constraintdef(oid) FROM pg_constraint
WHERE conname = 'unique_chunk_per_source' AND conrelid = to_regclass('gleaner.' || 'tenant_knowledge') AND convalidated

-- duplicate_keys --
-- Only looked for when the constraint is gone: with it there can be none.
SELECT count(*)::int FROM (
    SELECT 1 FROM gleaner.tenant_knowledge k
    WHERE %(tenant_id)s::text IS NULL OR k.tenant_id = %(tenant_id)s
    GROUP BY tenant_id, source_id, chunk_type, chunk_index, embedding_model HAVING count(*) > 1) AS doubled

-- invalid_indexes --
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'gleaner' AND NOT i.indisvalid
  AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index b WHERE b.index_relid = c.oid)
ORDER BY c.relname

-- estimated_chunks --
-- By the planner's statistics.
SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass('gleaner.' || 'tenant_knowledge')

-- disagreeing_fences --
-- Pages whose fence says another number of chunks than there are, among those with ids of a range: whoever reads the whole
-- table, reads it in turns.
SELECT count(*)::int FROM gleaner.tenant t CROSS JOIN LATERAL (
    SELECT FROM (
        SELECT g.source_id, g.embedding_model, g.chunk_count AS fence, 0 AS there FROM gleaner.knowledge_generation g
        WHERE g.tenant_id = t.tenant_id AND g.source_id BETWEEN %(first_page)s AND %(last_page)s
        UNION ALL
        SELECT k.source_id, k.embedding_model, 0, 1 FROM gleaner.tenant_knowledge k
        WHERE k.tenant_id = t.tenant_id AND k.source_id BETWEEN %(first_page)s AND %(last_page)s) AS both_sides
    GROUP BY source_id, embedding_model HAVING sum(fence) <> sum(there)) AS pages
WHERE %(tenant_id)s::text IS NULL OR t.tenant_id = %(tenant_id)s

-- prune_pending --
-- Paid vectors that no load came to fetch: their pages changed meanwhile.
DELETE FROM gleaner.pending_embedding
WHERE created_at < now() - interval '14 days' AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)

-- prune_snapshots --
-- Bytes of older versions that are past their time; the newest of each page stays, however old.
DELETE FROM gleaner.page_snapshot s USING (
    SELECT o.tenant_id, o.page_id, o.generation
    FROM gleaner.page_snapshot o JOIN gleaner.website_page p USING (tenant_id, page_id)
    WHERE o.generation < p.generation AND o.fetched_at < now() - %(keep)s::interval
      AND (%(tenant_id)s::text IS NULL OR o.tenant_id = %(tenant_id)s)
    LIMIT 20000) AS old
WHERE s.tenant_id = old.tenant_id AND s.page_id = old.page_id AND s.generation = old.generation

-- prune_tombstones --
-- Pages that went long ago and that no crawl has met since, with their fences. What has chunks stays, whatever its state.
WITH old AS (
    SELECT p.tenant_id, p.page_id FROM gleaner.website_page p
    WHERE p.state = 'gone' AND coalesce(p.checked_at, p.first_seen_at) < now() - %(keep)s::interval
      AND (%(tenant_id)s::text IS NULL OR p.tenant_id = %(tenant_id)s)
      AND NOT EXISTS (SELECT 1 FROM gleaner.tenant_knowledge k WHERE k.tenant_id = p.tenant_id AND k.source_id = p.page_id)
    ORDER BY p.tenant_id, p.page_id LIMIT 5000 FOR UPDATE SKIP LOCKED
), fences AS (
    DELETE FROM gleaner.knowledge_generation g USING old
    WHERE g.tenant_id = old.tenant_id AND g.source_id = old.page_id
)
SELECT tenant_id, page_id FROM old

-- delete_tombstones --
DELETE FROM gleaner.website_page p
USING unnest(%(tenant_ids)s::text[], %(page_ids)s::uuid[]) AS old (tenant_id, page_id)
WHERE p.tenant_id = old.tenant_id AND p.page_id = old.page_id AND p.state = 'gone'
  AND (%(tenant_id)s::text IS NULL OR p.tenant_id = %(tenant_id)s)

-- prune_endpoints --
-- What is known of paces and endpoints that nobody has used for so long that it says nothing any more. None is a tenant's.
DELETE FROM gleaner.endpoint_state
WHERE updated_at < now() - CASE WHEN endpoint LIKE 'pace:%%' THEN interval '2 days' ELSE interval '90 days' END
  AND %(tenant_id)s::text IS NULL

-- prune_reservations --
DELETE FROM gleaner.token_reservation
WHERE held_until < now() AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
