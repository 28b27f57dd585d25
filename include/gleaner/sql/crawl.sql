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
RETURNING job_id

-- take_over --
-- The newest crawl of the source, if it was stopped on its way, is no longer to be gone on with: this one does.
-- Not when it followed other rules, or is so old that what it fetched may be stale.
UPDATE gleaner.crawl_job last SET goes_on = false
WHERE last.tenant_id = %(tenant_id)s AND last.source_id = %(source_id)s AND last.goes_on AND last.state = 'partial'
  AND last.job_id = (SELECT max(job_id) FROM gleaner.crawl_job
                     WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND job_id <> %(job_id)s
                       AND kind = 'crawl')
  AND last.conf -> 'crawl' = %(crawl)s AND last.crawled_at > clock_timestamp() - interval '3 days'
RETURNING last.job_id, coalesce(last.reason, '')

-- adopt_pages --
-- What the taken-over crawl found is found, what it visited is visited; what failed in it is asked for once more.
UPDATE gleaner.website_page p
SET found_job = CASE WHEN p.found_job = %(last_id)s THEN %(job_id)s ELSE p.found_job END,
    visited_job = CASE WHEN p.visited_job IS DISTINCT FROM %(last_id)s THEN p.visited_job
                       WHEN EXISTS (SELECT 1 FROM gleaner.dead_letter d
                                    WHERE d.tenant_id = p.tenant_id AND d.page_id = p.page_id AND d.stage = 'crawl'
                                      AND d.job_id = %(last_id)s AND d.resolved_at IS NULL) THEN NULL
                       ELSE %(job_id)s END,
    missing_job = CASE WHEN p.missing_job = %(last_id)s THEN %(job_id)s ELSE p.missing_job END
FROM (SELECT page_id FROM gleaner.website_page
      WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s
        AND (found_job = %(last_id)s OR visited_job = %(last_id)s)
      ORDER BY page_id FOR UPDATE) AS mine
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = mine.page_id

-- job --
SELECT job_id, state, coalesce(reason, '') FROM gleaner.crawl_job
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND run_id = %(run_id)s

-- remember_params --
-- What a refresh of the source repeats.
UPDATE gleaner.website_source SET params = %(params)s
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND params IS DISTINCT FROM %(params)s

-- reopen_job --
UPDATE gleaner.crawl_job SET state = 'running', reason = NULL, crawled_at = NULL, goes_on = false
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
UPDATE gleaner.crawl_job
SET state = %(state)s, reason = %(reason)s, goes_on = %(goes_on)s, traps = %(traps)s, crawled_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND state = 'running'

-- discover --
-- Pages that this job found, new or known, but for those that are kept out. Among several ways to one page the shortest
-- counts.
INSERT INTO gleaner.website_page AS p (tenant_id, page_id, source_id, url, depth, hops, priority, found_job)
SELECT %(tenant_id)s, found.page_id, %(source_id)s, found.url, found.depth, found.hops, found.priority, %(job_id)s
FROM unnest(%(page_ids)b::uuid[], %(urls)b::text[], %(depths)s::integer[], %(hops)s::smallint[], %(priorities)s::real[])
     AS found (page_id, url, depth, hops, priority)
WHERE NOT EXISTS (SELECT FROM gleaner.forgotten f WHERE f.tenant_id = %(tenant_id)s AND f.target_id = found.page_id)
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
WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)b::uuid[]) ORDER BY page_id FOR UPDATE

-- count_known --
SELECT count(*) FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND found_job = %(job_id)s AND url = ANY(%(urls)s)

-- linked_urls --
-- The addresses in the frontier that no sitemap vouches for.
SELECT url, depth FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND found_job = %(job_id)s AND priority < %(vouched)s
ORDER BY depth, url

-- next_wave --
-- The frontier's pages that are nearest to the start, in an order that does not depend on time: the best first, and
-- of equals one of each family in turn, so that a limit does not spend itself on one family.
SELECT page_id, url, depth, hops, state, coalesce(reason, ''), etag, last_modified, content_hash, alias_of,
       generation IS NOT NULL AND EXISTS (
           SELECT 1 FROM gleaner.page_snapshot s
           WHERE s.tenant_id = p.tenant_id AND s.page_id = p.page_id AND s.generation = p.generation) AS is_stored
FROM gleaner.website_page p
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND found_job = %(job_id)s
  AND visited_job IS DISTINCT FROM %(job_id)s
  AND NOT EXISTS (SELECT FROM gleaner.forgotten f WHERE f.tenant_id = p.tenant_id AND f.target_id = p.page_id)
  AND depth = (SELECT min(o.depth) FROM gleaner.website_page o
               WHERE o.tenant_id = %(tenant_id)s AND o.source_id = %(source_id)s AND o.found_job = %(job_id)s
                 AND o.visited_job IS DISTINCT FROM %(job_id)s
                 AND NOT EXISTS (SELECT FROM gleaner.forgotten f
                                 WHERE f.tenant_id = o.tenant_id AND f.target_id = o.page_id))
ORDER BY priority DESC,
         row_number() OVER (PARTITION BY priority, regexp_replace(split_part(url, '?', 1), '[0-9]+', '#', 'g')
                            ORDER BY url),
         url
LIMIT %(limit)s

-- count_frontier --
SELECT count(*) FROM gleaner.website_page p
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND found_job = %(job_id)s
  AND visited_job IS DISTINCT FROM %(job_id)s
  AND NOT EXISTS (SELECT FROM gleaner.forgotten f WHERE f.tenant_id = p.tenant_id AND f.target_id = p.page_id)

-- overtaken_by --
-- The newest crawl of the source, where a newer one than this has found pages: these are no longer due here.
SELECT run_id, state FROM gleaner.crawl_job
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND kind = 'crawl' AND job_id > %(job_id)s
  AND EXISTS (SELECT FROM gleaner.website_page p
              WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.found_job > %(job_id)s)
ORDER BY job_id DESC LIMIT 1

-- count_spent --
-- Visits that count against the limit of pages: those that asked the server and were not sent elsewhere.
SELECT count(*) FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND visited_job = %(job_id)s
  AND NOT (state = 'skipped' AND reason IN ('redirect', 'redirect_out_of_scope', 'robots', 'out_of_scope', 'trap'))

-- alias --
-- Where a page sent this job to.
SELECT alias_of FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND url = %(url)s
  AND state = 'skipped' AND reason = 'redirect' AND alias_of IS NOT NULL

-- links --
-- The links of the pages' newest stored content.
SELECT DISTINCT ON (page_id) page_id, links FROM gleaner.page_snapshot
WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)s) ORDER BY page_id, generation DESC

-- store_fetched --
-- New content under new generations, with its snapshots. Links come as lines.
WITH news AS (
    SELECT * FROM unnest(
        %(page_ids)s::uuid[], %(states)s::text[], %(reasons)s::text[], %(aliases)s::text[], %(statuses)s::integer[],
        %(etags)s::text[], %(dates)s::text[], %(hashes)s::bytea[], %(bodies)b::bytea[], %(sizes)s::integer[],
        %(types)s::text[], %(links)b::text[])
        AS news (page_id, state, reason, alias_of, status, etag, last_modified, content_hash, body, raw_bytes,
                 content_type, links)
), stored AS (
    UPDATE gleaner.website_page p
    SET state = news.state, reason = news.reason, alias_of = news.alias_of, http_status = news.status, etag = news.etag,
        last_modified = news.last_modified, content_hash = news.content_hash,
        generation = nextval('gleaner.content_generation'), visited_job = %(job_id)s, missing_count = 0,
        missing_job = NULL, checked_at = clock_timestamp(), fetched_at = clock_timestamp()
    FROM news
    WHERE p.tenant_id = %(tenant_id)s AND p.page_id = news.page_id
    RETURNING p.page_id, p.generation
)
INSERT INTO gleaner.page_snapshot (tenant_id, page_id, generation, body, raw_bytes, content_type, links)
SELECT %(tenant_id)s, page_id, stored.generation, body, raw_bytes, content_type, string_to_array(links, E'\n')
FROM stored JOIN news USING (page_id)

-- prune_snapshots --
DELETE FROM gleaner.page_snapshot
WHERE tenant_id = %(tenant_id)s AND (page_id, generation) IN (
    SELECT page_id, generation FROM (
        SELECT page_id, generation, row_number() OVER (PARTITION BY page_id ORDER BY generation DESC) AS age
        FROM gleaner.page_snapshot
        WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)s)) AS aged
    WHERE age > %(keep)s)

-- store_unchanged --
UPDATE gleaner.website_page p
SET http_status = news.status, etag = coalesce(news.etag, p.etag),
    last_modified = coalesce(news.last_modified, p.last_modified), visited_job = %(job_id)s,
    missing_count = CASE WHEN p.state = 'skipped' AND p.alias_of IS NULL THEN p.missing_count ELSE 0 END,
    checked_at = clock_timestamp()
FROM unnest(%(page_ids)s::uuid[], %(statuses)s::integer[], %(etags)s::text[], %(dates)s::text[])
     AS news (page_id, status, etag, last_modified)
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = news.page_id

-- store_skipped --
-- Nothing to store here, and why.
UPDATE gleaner.website_page p
SET state = 'skipped', reason = news.reason, alias_of = news.alias_of, http_status = news.status, etag = NULL,
    last_modified = NULL, visited_job = %(job_id)s, checked_at = clock_timestamp()
FROM unnest(%(page_ids)s::uuid[], %(statuses)s::integer[], %(reasons)s::text[], %(aliases)s::text[])
     AS news (page_id, status, reason, alias_of)
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = news.page_id

-- store_left_out --
-- One of a family that turned out to be one page: not asked for, and nothing said about what may be stored of it.
UPDATE gleaner.website_page
SET state = CASE WHEN generation IS NULL THEN 'skipped' ELSE state END,
    reason = CASE WHEN generation IS NULL THEN 'trap' ELSE reason END, visited_job = %(job_id)s
WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)s)

-- store_missing --
-- 404 and 410. A page that never had content is gone at once; one that had needs a second crawl to say so.
UPDATE gleaner.website_page p
SET state = CASE WHEN p.generation IS NULL THEN 'gone' ELSE p.state END,
    reason = CASE WHEN p.generation IS NULL THEN news.reason ELSE p.reason END,
    missing_count = p.missing_count + CASE WHEN p.missing_job IS DISTINCT FROM %(job_id)s THEN 1 ELSE 0 END,
    missing_job = %(job_id)s, http_status = news.status, visited_job = %(job_id)s, checked_at = clock_timestamp()
FROM unnest(%(page_ids)s::uuid[], %(statuses)s::integer[], %(reasons)s::text[]) AS news (page_id, status, reason)
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = news.page_id

-- store_faults --
-- The server could not say: what is stored stays as it is.
UPDATE gleaner.website_page p
SET state = CASE WHEN p.generation IS NULL THEN 'failed' ELSE p.state END,
    reason = CASE WHEN p.generation IS NULL THEN news.reason ELSE p.reason END,
    http_status = news.status, visited_job = %(job_id)s, checked_at = clock_timestamp()
FROM unnest(%(page_ids)s::uuid[], %(statuses)s::integer[], %(reasons)s::text[]) AS news (page_id, status, reason)
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = news.page_id

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
