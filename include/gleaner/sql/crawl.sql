-- Queries of the crawl. The frontier is the pages that a job found and has not visited: it survives any kill.

-- create_tenant --
INSERT INTO gleaner.tenant (tenant_id) VALUES (%(tenant_id)s) ON CONFLICT (tenant_id) DO NOTHING

-- create_source --
INSERT INTO gleaner.website_source (tenant_id, source_id, root_url)
VALUES (%(tenant_id)s, %(source_id)s, %(root_url)s)
ON CONFLICT (tenant_id, source_id) DO NOTHING

-- create_job --
-- One crawl per run: a second try of the task finds the first one's.
INSERT INTO gleaner.crawl_job (tenant_id, source_id, run_id, conf)
VALUES (%(tenant_id)s, %(source_id)s, %(run_id)s, %(conf)s)
ON CONFLICT (tenant_id, source_id, run_id) DO NOTHING

-- job --
SELECT job_id, state, coalesce(reason, '') FROM gleaner.crawl_job
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND run_id = %(run_id)s

-- reopen_job --
UPDATE gleaner.crawl_job SET state = 'running', reason = NULL, crawled_at = NULL
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND state = 'failed'

-- revisit_failed --
-- A failed crawl is tried again: what failed in it is asked for once more.
UPDATE gleaner.website_page p SET visited_job = NULL
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.visited_job = %(job_id)s
  AND (p.url = ANY(%(urls)s)
       OR EXISTS (SELECT 1 FROM gleaner.dead_letter d
                  WHERE d.tenant_id = p.tenant_id AND d.page_id = p.page_id AND d.stage = 'crawl'
                    AND d.job_id = %(job_id)s AND d.resolved_at IS NULL))

-- note_reason --
UPDATE gleaner.crawl_job SET reason = %(reason)s
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND state = 'running'

-- close_job --
UPDATE gleaner.crawl_job SET state = %(state)s, reason = %(reason)s, crawled_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND state = 'running'

-- discover --
-- Pages that this job found, new or known. Among several ways to one page the shortest counts.
INSERT INTO gleaner.website_page AS p (tenant_id, page_id, source_id, url, depth, hops, priority, found_job)
SELECT %(tenant_id)s, found.page_id, %(source_id)s, found.url, found.depth, found.hops, found.priority, %(job_id)s
FROM unnest(%(page_ids)s::uuid[], %(urls)s::text[], %(depths)s::integer[], %(hops)s::smallint[], %(priorities)s::real[])
     AS found (page_id, url, depth, hops, priority)
ORDER BY found.page_id
ON CONFLICT (tenant_id, page_id) DO UPDATE
SET found_job = excluded.found_job,
    depth = CASE WHEN p.found_job = excluded.found_job THEN least(p.depth, excluded.depth) ELSE excluded.depth END,
    hops = CASE WHEN p.found_job = excluded.found_job THEN least(p.hops, excluded.hops) ELSE excluded.hops END,
    priority = CASE WHEN p.found_job = excluded.found_job THEN greatest(p.priority, excluded.priority)
                    ELSE excluded.priority END
WHERE p.found_job < excluded.found_job
   OR p.found_job = excluded.found_job
      AND (p.depth > excluded.depth OR p.hops > excluded.hops OR p.priority < excluded.priority)

-- lock_pages --
SELECT FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)s) ORDER BY page_id FOR UPDATE

-- count_known --
SELECT count(*) FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND found_job = %(job_id)s AND url = ANY(%(urls)s)

-- next_wave --
-- The frontier's pages that are nearest to the start, in an order that does not depend on time.
SELECT page_id, url, depth, hops, state, coalesce(reason, ''), etag, last_modified, content_hash, generation, alias_of
FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND found_job = %(job_id)s
  AND visited_job IS DISTINCT FROM %(job_id)s
  AND depth = (SELECT min(depth) FROM gleaner.website_page
               WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND found_job = %(job_id)s
                 AND visited_job IS DISTINCT FROM %(job_id)s)
ORDER BY priority DESC, url
LIMIT %(limit)s

-- count_frontier --
SELECT count(*) FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND found_job = %(job_id)s
  AND visited_job IS DISTINCT FROM %(job_id)s

-- count_spent --
-- Visits that count against the limit of pages: those that asked the server and were not sent elsewhere.
SELECT count(*) FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND visited_job = %(job_id)s
  AND NOT (state = 'skipped' AND reason IN ('redirect', 'redirect_out_of_scope', 'robots', 'out_of_scope'))

-- alias --
-- Where a page sent this job to.
SELECT alias_of FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND url = %(url)s
  AND state = 'skipped' AND reason = 'redirect' AND alias_of IS NOT NULL

-- links --
SELECT links FROM gleaner.page_snapshot
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s ORDER BY generation DESC LIMIT 1

-- store_fetched --
-- New content under a new generation.
UPDATE gleaner.website_page
SET state = %(state)s, reason = %(reason)s, alias_of = %(alias_of)s, http_status = 200, etag = %(etag)s,
    last_modified = %(last_modified)s, content_hash = %(content_hash)s,
    generation = nextval('gleaner.content_generation'), visited_job = %(job_id)s, missing_count = 0, missing_job = NULL,
    checked_at = clock_timestamp(), fetched_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s
RETURNING generation

-- store_snapshot --
INSERT INTO gleaner.page_snapshot (tenant_id, page_id, generation, body, raw_bytes, content_type, links)
VALUES (%(tenant_id)s, %(page_id)s, %(generation)s, %(body)s, %(raw_bytes)s, %(content_type)s, %(links)s)

-- prune_snapshots --
DELETE FROM gleaner.page_snapshot
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s
  AND generation < (SELECT min(generation) FROM (
        SELECT generation FROM gleaner.page_snapshot
        WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s
        ORDER BY generation DESC LIMIT %(keep)s) AS kept)

-- store_unchanged --
UPDATE gleaner.website_page
SET http_status = %(status)s, etag = coalesce(%(etag)s, etag), last_modified = coalesce(%(last_modified)s, last_modified),
    visited_job = %(job_id)s,
    missing_count = CASE WHEN state = 'skipped' AND alias_of IS NULL THEN missing_count ELSE 0 END,
    checked_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s

-- store_skipped --
-- Nothing to store here, and why.
UPDATE gleaner.website_page
SET state = 'skipped', reason = %(reason)s, alias_of = %(alias_of)s, http_status = %(status)s, etag = NULL,
    last_modified = NULL, visited_job = %(job_id)s, checked_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s

-- store_missing --
-- 404 and 410. A page that never had content is gone at once; one that had needs a second crawl to say so.
UPDATE gleaner.website_page
SET state = CASE WHEN generation IS NULL THEN 'gone' ELSE state END,
    reason = CASE WHEN generation IS NULL THEN %(reason)s ELSE reason END,
    missing_count = missing_count + CASE WHEN missing_job IS DISTINCT FROM %(job_id)s THEN 1 ELSE 0 END,
    missing_job = %(job_id)s, http_status = %(status)s, visited_job = %(job_id)s, checked_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s

-- store_fault --
-- The server could not say: what is stored stays as it is.
UPDATE gleaner.website_page
SET state = CASE WHEN generation IS NULL THEN 'failed' ELSE state END,
    reason = CASE WHEN generation IS NULL THEN %(reason)s ELSE reason END,
    http_status = %(status)s, visited_job = %(job_id)s, checked_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s

-- outcome --
SELECT count(*) FILTER (WHERE found_job = %(job_id)s)::int AS found,
       count(*) FILTER (WHERE visited_job = %(job_id)s)::int AS visited,
       count(*) FILTER (WHERE visited_job = %(job_id)s AND fetched_at >= job.started_at)::int AS changed,
       count(*) FILTER (WHERE visited_job = %(job_id)s AND generation IS NOT NULL AND fetched_at < job.started_at
                          AND http_status IN (200, 304))::int AS unchanged
FROM gleaner.crawl_job job
LEFT JOIN gleaner.website_page p ON p.tenant_id = job.tenant_id AND p.source_id = job.source_id
WHERE job.tenant_id = %(tenant_id)s AND job.job_id = %(job_id)s

-- count_faults --
SELECT count(*) FROM gleaner.dead_letter
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND stage = 'crawl' AND resolved_at IS NULL
