-- Queries of the run's end: what is gone, what is missing, what was done.

-- missing_pages --
-- Pages with two crawls' evidence that there is no content any more, which still have chunks.
SELECT p.page_id FROM gleaner.website_page p
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.missing_count >= 2
  AND p.state <> 'gone' AND p.reason IS DISTINCT FROM 'content_lost'
ORDER BY p.page_id

-- held_pages --
-- Pages whose newest content is held back, because it would overwrite too much.
SELECT count(*)::int FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND state = 'skipped' AND reason = 'content_lost'

-- share_verdict --
-- What processing said of a page that has no content is true of the same bytes at other addresses.
UPDATE gleaner.website_page p
SET reason = keeper.reason, alias_of = NULL
FROM gleaner.website_page keeper
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state = 'skipped' AND p.reason = 'duplicate'
  AND keeper.tenant_id = p.tenant_id AND keeper.source_id = p.source_id AND keeper.url = p.alias_of
  AND keeper.content_hash = p.content_hash AND keeper.state = 'skipped' AND keeper.alias_of IS NULL
  AND keeper.reason NOT IN ('robots', 'noindex', 'content_type', 'redirect_out_of_scope', 'out_of_scope', 'no_body', 'feed',
                            'trap', 'content_lost')

-- evidence_of_skipped --
-- A page without content, or one that leads to nothing, over other aliases or not: one more crawl that found nothing here. What
-- is held back, or was left out as a trap's, is not known to be nothing.
UPDATE gleaner.website_page
SET missing_count = missing_count + 1, missing_job = %(job_id)s
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND state = 'skipped' AND generation IS NOT NULL
  AND (alias_of IS NULL OR EXISTS (
        WITH RECURSIVE trail AS (
            SELECT t.state, t.reason, t.alias_of, t.visited_job, 1 AS steps FROM gleaner.website_page t
            WHERE t.tenant_id = website_page.tenant_id AND t.source_id = website_page.source_id
              AND t.url = website_page.alias_of
            UNION ALL
            SELECT t.state, t.reason, t.alias_of, t.visited_job, steps + 1
            FROM trail JOIN gleaner.website_page t ON t.url = trail.alias_of AND trail.state = 'skipped' AND steps < 10
            WHERE t.tenant_id = %(tenant_id)s AND t.source_id = %(source_id)s)
        SELECT FROM trail
        WHERE state = 'gone'
           OR state = 'skipped' AND alias_of IS NULL AND reason NOT IN ('content_lost', 'trap') AND visited_job = %(job_id)s))
  AND visited_job = %(job_id)s AND missing_job IS DISTINCT FROM %(job_id)s AND missing_count < 2

-- unreached_pages --
-- Pages that a complete crawl no longer found. Whether the run's scope covers them is for the caller to say.
SELECT page_id, url FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND found_job < %(job_id)s
  AND state IN ('fetched', 'completed', 'chunked', 'failed', 'skipped')
ORDER BY page_id

-- moved_pages --
-- Aliases (redirect, canonical, duplicate) that still have chunks although the page they lead to, over other aliases or not, has
-- its own, and whether they are the only ones that lead there: a page that moved is told elsewhere, of many that became one only
-- one is. LIMIT has each looked up, whatever the planner knows of the tenant.
WITH RECURSIVE trail AS (
    SELECT p.page_id, 'skipped' AS state, p.alias_of, NULL::text AS url, 0 AS steps FROM gleaner.website_page p
    WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state = 'skipped' AND p.alias_of IS NOT NULL
      AND EXISTS (SELECT 1 FROM gleaner.tenant_knowledge k WHERE k.tenant_id = p.tenant_id AND k.source_id = p.page_id)
    UNION ALL
    SELECT trail.page_id, target.state, target.alias_of, target.url, steps + 1
    FROM trail CROSS JOIN LATERAL (
        SELECT t.state, t.alias_of, t.url FROM gleaner.website_page t
        WHERE t.tenant_id = %(tenant_id)s AND t.source_id = %(source_id)s AND t.url = trail.alias_of
        LIMIT 1
    ) AS target
    WHERE trail.state = 'skipped' AND steps < 10
)
SELECT page_id, count(*) OVER (PARTITION BY url) = 1 FROM trail WHERE state = 'chunked'
ORDER BY page_id

-- moved_with_the_site --
-- Those of the given pages whose content is known at another address by now: with the same blocks, or at the same path of
-- one of the origins with the same title, half of the blocks, or nearly the same words.
WITH gone AS (
    SELECT p.page_id, regexp_replace(p.url, '^[a-z]+://[^/]+', '') AS path, d.block_hashes, d.title, d.bands
    FROM gleaner.website_page p JOIN gleaner.page_document d USING (tenant_id, page_id)
    WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.page_id = ANY(%(page_ids)s)
      AND d.block_hashes <> '{}'
), here AS (
    SELECT p.url, d.block_hashes, d.title, d.bands
    FROM gleaner.website_page p JOIN gleaner.page_document d USING (tenant_id, page_id, generation)
    WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.found_job = %(job_id)s AND p.state = 'chunked'
)
SELECT gone.page_id FROM gone JOIN here USING (block_hashes)
UNION
SELECT gone.page_id FROM gone
CROSS JOIN unnest(%(origins)s::text[]) AS origin JOIN here ON here.url = origin || gone.path
WHERE here.title = gone.title OR here.bands && gone.bands
   OR 2 * (SELECT count(*) FROM unnest(gone.block_hashes) AS hash WHERE hash = ANY(here.block_hashes))
      >= cardinality(gone.block_hashes)
ORDER BY page_id

-- with_chunks --
-- Those of the given pages that have chunks: what a delete would really cost.
SELECT count(DISTINCT source_id) FROM gleaner.tenant_knowledge
WHERE tenant_id = %(tenant_id)s AND source_id = ANY(%(page_ids)s)

-- loaded_pages --
-- Pages of the source that have chunks.
SELECT count(DISTINCT k.source_id) FROM gleaner.tenant_knowledge k
JOIN gleaner.website_page p ON p.tenant_id = k.tenant_id AND p.page_id = k.source_id
WHERE k.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s

-- raise_fence --
-- A retired page's fence goes above every number drawn so far: no slower task brings its chunks back.
UPDATE gleaner.knowledge_generation g
SET generation = nextval('gleaner.content_generation'), set_hash = ''::bytea, chunk_count = 0, updated_at = now()
FROM (SELECT source_id, embedding_model FROM gleaner.knowledge_generation
      WHERE tenant_id = %(tenant_id)s AND source_id = ANY(%(page_ids)s)
      ORDER BY source_id, embedding_model FOR UPDATE) AS mine
WHERE g.tenant_id = %(tenant_id)s AND g.source_id = mine.source_id AND g.embedding_model = mine.embedding_model

-- delete_chunks --
DELETE FROM gleaner.tenant_knowledge
WHERE tenant_id = %(tenant_id)s AND source_id = ANY(%(page_ids)s)

-- mark_gone --
-- The tombstone. Aliases stay what they are, but for copies of other pages that are not there any more: they would speak again
-- when those change.
UPDATE gleaner.website_page SET state = 'gone', alias_of = NULL,
       reason = CASE WHEN alias_of IS NULL THEN coalesce(reason, %(reason)s) ELSE %(reason)s END
WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)s)
  AND (alias_of IS NULL OR %(with_copies)s AND reason IN ('duplicate', 'near_duplicate'))

-- gap --
-- What should be searchable and is not: pages with content that are not chunked, and chunks without a vector.
SELECT
    (SELECT count(*) FROM gleaner.website_page
     WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND state IN ('fetched', 'completed'))
        AS pages_not_chunked,
    (SELECT count(*) FROM gleaner.tenant_knowledge k
     JOIN gleaner.website_page p ON p.tenant_id = k.tenant_id AND p.page_id = k.source_id
     WHERE k.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND k.embedding_model = %(model)s
       AND k.embedding IS NULL)
        AS chunks_without_vector,
    (SELECT count(*) FROM gleaner.website_page p
     WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state IN ('fetched', 'completed')
       AND NOT EXISTS (SELECT 1 FROM gleaner.dead_letter d
                       WHERE d.tenant_id = p.tenant_id AND d.page_id = p.page_id AND d.resolved_at IS NULL
                         AND d.stage <> 'crawl'))
        AS unexplained

-- pages_by_state --
SELECT state, coalesce(reason, '') AS reason, count(*)::int FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s
GROUP BY state, reason ORDER BY state, reason

-- chunks_by_type --
SELECT k.chunk_type, count(*)::int FROM gleaner.tenant_knowledge k
JOIN gleaner.website_page p ON p.tenant_id = k.tenant_id AND p.page_id = k.source_id
WHERE k.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND k.embedding_model = %(model)s
GROUP BY k.chunk_type ORDER BY k.chunk_type

-- failures --
-- Unresolved dead letters of this source, by stage and reason.
SELECT d.stage, d.reason, count(*)::int FROM gleaner.dead_letter d
JOIN gleaner.website_page p ON p.tenant_id = d.tenant_id AND p.page_id = d.page_id
WHERE d.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND d.resolved_at IS NULL
GROUP BY d.stage, d.reason ORDER BY d.stage, d.reason

-- failed_pages_of_run --
-- Pages with a failure that this run met, whatever the stage.
SELECT count(DISTINCT page_id) FROM gleaner.dead_letter
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND resolved_at IS NULL

-- batch_totals --
SELECT coalesce(sum(chunks), 0)::int AS chunks, coalesce(sum(embedded), 0)::int AS embedded,
       coalesce(sum(reused), 0)::int AS reused, coalesce(sum(requests), 0)::int AS requests,
       coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(created), 0)::int AS created,
       coalesce(sum(updated), 0)::int AS updated, coalesce(sum(unchanged), 0)::int AS unchanged,
       coalesce(sum(deleted), 0)::int AS deleted, coalesce(sum(stale_pages), 0)::int AS stale_pages
FROM gleaner.batch_report WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND stage <> 'estimate'

-- not_asked --
-- Texts without a vector because of the quota, or because the endpoint failed; by the newest try of each batch.
SELECT coalesce(sum(withheld), 0)::int, coalesce(sum(paused), 0)::int FROM (
    SELECT DISTINCT ON (batch_index) withheld, paused FROM gleaner.batch_report
    WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND stage = 'load'
    ORDER BY batch_index, try_number DESC) AS newest

-- estimate --
-- What a dry run found that a real one would do, by the newest try of each batch.
SELECT coalesce(sum(pages), 0)::int AS pages, coalesce(sum(chunks), 0)::int AS chunks,
       coalesce(sum(embedded), 0)::int AS vectors, coalesce(sum(reused), 0)::int AS reused,
       coalesce(sum(tokens), 0)::bigint AS tokens
FROM (SELECT DISTINCT ON (batch_index) pages, chunks, embedded, reused, tokens FROM gleaner.batch_report
      WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND stage = 'estimate'
      ORDER BY batch_index, try_number DESC) AS newest

-- stage_seconds --
-- Wall time per stage, from the first start to the last end.
SELECT stage, extract(epoch FROM max(coalesce(finished_at, clock_timestamp())) - min(started_at))::float8
FROM gleaner.batch_report WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s GROUP BY stage

-- retired_before --
-- Pages that an earlier try of this task has retired: what it did is not to be done again, and is part of the report.
SELECT coalesce((report -> 'retired' ->> 'retired')::int, 0) FROM gleaner.crawl_job
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s

-- finish_job --
UPDATE gleaner.crawl_job SET report = %(report)s, finished_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s

-- job_state --
SELECT state, reason FROM gleaner.crawl_job WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s

-- traps --
-- The families of addresses that the crawl followed so far and no further.
SELECT traps FROM gleaner.crawl_job WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s

-- crawl_times --
SELECT root_url, started_at, crawled_at, coalesce(planned_pages, 0)
FROM gleaner.crawl_job JOIN gleaner.website_source USING (tenant_id, source_id)
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s

-- crawl_counts --
-- Pages that this crawl found, visited, and found changed.
SELECT count(*) FILTER (WHERE found_job = %(job_id)s)::int, count(*) FILTER (WHERE visited_job = %(job_id)s)::int
FROM gleaner.website_page WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s
