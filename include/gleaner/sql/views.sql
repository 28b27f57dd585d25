-- Queries of the page "Knowledge": what one view shows, a screenful at a time. What comes next is asked for by the key of
-- the last row (%(after...)s), so that the hundredth screenful costs what the first one does. Where %(tenant_id)s may be
-- null, it is: all tenants.

-- tenants --
SELECT t.tenant_id, t.search_model, t.previous_model, t.monthly_token_quota,
       (SELECT count(*) FROM gleaner.website_source s WHERE s.tenant_id = t.tenant_id)::int,
       (SELECT coalesce(sum(u.tokens), 0)::bigint FROM gleaner.embedding_usage u
        WHERE u.tenant_id = t.tenant_id AND u.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date)
FROM gleaner.tenant t
WHERE t.tenant_id > %(after)s AND (%(tenant_id)s::text IS NULL OR t.tenant_id = %(tenant_id)s)
  AND (%(containing)s::text IS NULL OR position(%(containing)s::text IN t.tenant_id) > 0)
ORDER BY t.tenant_id LIMIT %(limit)s

-- sources --
-- Websites, each with its newest crawl, its pages by state as the database counts them, and when it is due.
WITH source AS MATERIALIZED (
    SELECT * FROM gleaner.website_source
    WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
      AND (tenant_id, root_url) > (%(after_tenant)s, %(after_url)s)
      AND (%(source_id)s::uuid IS NULL OR source_id = %(source_id)s)
    ORDER BY tenant_id, root_url LIMIT %(limit)s
), counted AS (
    SELECT tenant_id, source_id, jsonb_object_agg(label, pages) AS states FROM (
        SELECT m.tenant_id, m.source_id, m.label, sum(m.amount)::bigint AS pages
        FROM source s JOIN (
            SELECT tenant_id, source_id, name, label, amount FROM gleaner.metric_total
            UNION ALL SELECT tenant_id, source_id, name, label, amount FROM gleaner.metric_change) AS m
          USING (tenant_id, source_id)
        WHERE m.name = 'pages' GROUP BY m.tenant_id, m.source_id, m.label HAVING sum(m.amount) > 0) AS by_state
    GROUP BY tenant_id, source_id
)
SELECT s.tenant_id, s.source_id, s.root_url, s.paused, extract(epoch FROM s.refresh_every)::float8, s.params,
       j.job_id, j.run_id, j.state, j.reason, j.started_at, j.finished_at,
       CASE WHEN NOT s.paused AND s.params IS NOT NULL THEN j.started_at + s.refresh_every END,
       j.finished_at IS NULL AND j.started_at > now() - interval '12 hours', c.states,
       EXISTS (SELECT FROM gleaner.forgotten f WHERE f.tenant_id = s.tenant_id AND f.target_id = s.source_id)
FROM source s
LEFT JOIN LATERAL (
    SELECT * FROM gleaner.crawl_job o
    WHERE o.tenant_id = s.tenant_id AND o.source_id = s.source_id AND o.kind = 'crawl'
    ORDER BY o.started_at DESC LIMIT 1) AS j ON true
LEFT JOIN counted c ON c.tenant_id = s.tenant_id AND c.source_id = s.source_id
ORDER BY s.tenant_id, s.root_url

-- pages --
-- Pages of a website in the order of their addresses.
WITH page AS (
    SELECT p.* FROM (
        SELECT tenant_id, source_id, url FROM gleaner.website_page -- by the index alone, for those that are passed by
        WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND url > %(after)s
          AND (%(containing)s::text IS NULL OR position(%(containing)s::text IN url) > 0)
        ORDER BY url LIMIT %(limit)s) AS found
    JOIN gleaner.website_page p USING (tenant_id, source_id, url)
)
SELECT p.page_id, p.url, p.state, p.reason, p.http_status, p.alias_of, p.fetched_at, p.checked_at, d.title, d.language,
       (SELECT g.chunk_count FROM gleaner.knowledge_generation g JOIN gleaner.tenant t USING (tenant_id)
        WHERE g.tenant_id = p.tenant_id AND g.source_id = p.page_id AND g.embedding_model = t.search_model)
FROM page p LEFT JOIN gleaner.page_document d USING (tenant_id, page_id)
ORDER BY p.url

-- pages_in_state --
-- Pages of a website that are in one state, in the order of their ids: that of the index.
WITH page AS (
    SELECT * FROM gleaner.website_page
    WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND state = %(state)s AND page_id > %(after_id)s
      AND (%(containing)s::text IS NULL OR position(%(containing)s::text IN url) > 0)
    ORDER BY page_id LIMIT %(limit)s
)
SELECT p.page_id, p.url, p.state, p.reason, p.http_status, p.alias_of, p.fetched_at, p.checked_at, d.title, d.language,
       (SELECT g.chunk_count FROM gleaner.knowledge_generation g JOIN gleaner.tenant t USING (tenant_id)
        WHERE g.tenant_id = p.tenant_id AND g.source_id = p.page_id AND g.embedding_model = t.search_model)
FROM page p LEFT JOIN gleaner.page_document d USING (tenant_id, page_id)
ORDER BY p.page_id

-- page --
SELECT p.page_id, p.source_id, s.root_url, p.url, p.state, p.reason, p.http_status, p.alias_of, p.depth,
       p.first_seen_at, p.checked_at, p.fetched_at, d.title, d.language, d.word_count, d.processed_at, d.document,
       p.url = s.root_url, t.search_model
FROM gleaner.website_page p JOIN gleaner.website_source s USING (tenant_id, source_id)
JOIN gleaner.tenant t USING (tenant_id)
LEFT JOIN gleaner.page_document d USING (tenant_id, page_id)
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = %(page_id)s

-- chunks --
-- Of a page, in the model that readers see.
SELECT k.chunk_type, k.chunk_index, k.section_title, k.full_text, k.tldr, k.language, k.token_count, k.word_count,
       k.embedding IS NOT NULL, k.updated_at
FROM gleaner.tenant_knowledge k
WHERE k.tenant_id = %(tenant_id)s AND k.source_id = %(page_id)s
  AND k.embedding_model = (SELECT t.search_model FROM gleaner.tenant t WHERE t.tenant_id = %(tenant_id)s)
  AND (k.chunk_type, k.chunk_index) > (%(after_type)s, %(after_index)s)
ORDER BY k.chunk_type, k.chunk_index LIMIT %(limit)s

-- snapshot --
-- The newest bytes of a page.
SELECT body, content_type, raw_bytes, fetched_at FROM gleaner.page_snapshot
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s ORDER BY generation DESC LIMIT 1

-- page_failures --
SELECT stage, item, reason, detail, attempts, first_at, last_at FROM gleaner.dead_letter
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s AND resolved_at IS NULL ORDER BY stage, item LIMIT 100

-- failures --
-- What failed and is not mended, the newest first.
WITH failure AS (
    SELECT * FROM gleaner.dead_letter
    WHERE tenant_id = %(tenant_id)s AND resolved_at IS NULL
      AND (last_at, stage, page_id, item)
          < (%(after_at)s::timestamptz, %(after_stage)s::text, %(after_id)s::uuid, %(after_item)s::text)
    ORDER BY last_at DESC, stage DESC, page_id DESC, item DESC LIMIT %(limit)s
)
SELECT f.stage, f.page_id, f.item, f.reason, f.detail, f.attempts, f.first_at, f.last_at, p.url, p.source_id
FROM failure f JOIN gleaner.website_page p USING (tenant_id, page_id)
ORDER BY f.last_at DESC, f.stage DESC, f.page_id DESC, f.item DESC

-- runs --
-- Runs of a tenant, or of one of its websites, the newest first.
SELECT j.job_id, j.source_id, s.root_url, j.run_id, j.kind, j.state, j.reason, j.planned_pages, j.started_at,
       j.crawled_at, j.finished_at
FROM (SELECT * FROM gleaner.crawl_job
      WHERE tenant_id = %(tenant_id)s AND job_id < %(after)s
        AND (%(source_id)s::uuid IS NULL OR source_id = %(source_id)s)
      ORDER BY job_id DESC LIMIT %(limit)s) AS j
JOIN gleaner.website_source s USING (tenant_id, source_id)
ORDER BY j.job_id DESC

-- run --
SELECT j.job_id, j.source_id, s.root_url, j.run_id, j.kind, j.state, j.reason, j.planned_pages, j.started_at,
       j.crawled_at, j.finished_at, j.report, now()
FROM gleaner.crawl_job j JOIN gleaner.website_source s USING (tenant_id, source_id)
WHERE j.tenant_id = %(tenant_id)s AND j.job_id = %(job_id)s

-- batches --
-- What each batch of a run did and when, by its newest try.
SELECT DISTINCT ON (stage, batch_index) stage, batch_index, try_number, pages, failed, skipped, chunks, embedded, reused,
       started_at, finished_at
FROM gleaner.batch_report WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s
ORDER BY stage, batch_index, try_number DESC LIMIT 4000

-- crawl_pace --
-- Pages that a crawl looked at, in steps of so many seconds since it began. A later crawl takes pages over.
SELECT floor(extract(epoch FROM p.checked_at - j.started_at) / %(step)s)::int AS at, count(*)::int
FROM gleaner.crawl_job j JOIN gleaner.website_page p
  ON p.tenant_id = j.tenant_id AND p.source_id = j.source_id AND p.visited_job = j.job_id
WHERE j.tenant_id = %(tenant_id)s AND j.job_id = %(job_id)s AND p.checked_at >= j.started_at
GROUP BY 1 ORDER BY 1 LIMIT 1000

-- gap --
-- What should be searchable and is not, and what failed, as the database counts them; and what was given up, up to a bound.
SELECT coalesce(sum(m.amount) FILTER (WHERE m.name = 'pages' AND m.label IN ('fetched', 'completed')), 0)::bigint,
       coalesce(sum(m.amount) FILTER (WHERE m.name = 'chunks_without_vector'), 0)::bigint,
       coalesce(sum(m.amount) FILTER (WHERE m.name = 'dead_letters'), 0)::bigint,
       (SELECT count(*) FROM (SELECT FROM gleaner.dead_letter d
            WHERE d.resolved_at IS NULL AND d.stage <> 'crawl' AND d.attempts >= %(last_attempt)s
              AND (%(tenant_id)s::text IS NULL OR d.tenant_id = %(tenant_id)s)
            LIMIT %(most)s) AS counted)::int
FROM (SELECT tenant_id, name, label, amount FROM gleaner.metric_total
      UNION ALL SELECT tenant_id, name, label, amount FROM gleaner.metric_change) AS m
WHERE m.name IN ('pages', 'chunks_without_vector', 'dead_letters')
  AND (%(tenant_id)s::text IS NULL OR m.tenant_id = %(tenant_id)s)

-- set_paused --
UPDATE gleaner.website_source SET paused = %(paused)s
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND NOT EXISTS (
    SELECT FROM gleaner.forgotten f WHERE f.tenant_id = %(tenant_id)s AND f.target_id = %(source_id)s)
RETURNING root_url

-- replay --
-- As if it had failed once, long ago: due at once, with all its tries before it. One page's failures, or a tenant's all.
UPDATE gleaner.dead_letter SET attempts = 1, last_at = now() - interval '2 hours'
WHERE tenant_id = %(tenant_id)s AND resolved_at IS NULL AND stage <> 'crawl'
  AND (%(page_id)s::uuid IS NULL OR page_id = %(page_id)s) AND (%(stage)s::text IS NULL OR stage = %(stage)s)

-- is_tenant --
SELECT FROM gleaner.tenant WHERE tenant_id = %(tenant_id)s
