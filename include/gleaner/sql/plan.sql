-- Queries that decide what a run has to do, and read the pages of a batch.

-- job --
-- The crawl that belongs to this run.
SELECT job_id, source_id, state, reason FROM gleaner.crawl_job
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND run_id = %(run_id)s

-- mark_duplicates --
-- Of the pages with the very same bytes, the one with the shortest URL speaks for all; the others become its aliases. What
-- a complete crawl found no longer comes last.
WITH last_crawl AS (
    SELECT job_id, state FROM gleaner.crawl_job
    WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND kind = 'crawl' ORDER BY job_id DESC LIMIT 1
), ranked AS (
    SELECT page_id, url,
           first_value(page_id) OVER same AS keeper_id,
           first_value(url) OVER same AS keeper_url
    FROM gleaner.website_page p LEFT JOIN last_crawl ON last_crawl.state = 'complete'
    WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s
      AND p.state IN ('fetched', 'completed', 'chunked') AND content_hash IS NOT NULL
    WINDOW same AS (PARTITION BY content_hash ORDER BY coalesce(found_job < last_crawl.job_id, false), length(url), url)
)
UPDATE gleaner.website_page p
SET state = 'skipped', reason = 'duplicate', alias_of = ranked.keeper_url
FROM ranked
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = ranked.page_id AND ranked.page_id <> ranked.keeper_id

-- release_duplicates --
-- A duplicate whose keeper changed, went or failed speaks for itself again, and so does a page whose canonical address
-- turned out to have no content.
UPDATE gleaner.website_page p
SET state = 'fetched', reason = NULL, alias_of = NULL
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s
  AND p.state = 'skipped' AND p.generation IS NOT NULL
  AND (p.reason = 'near_duplicate' AND NOT EXISTS (
        SELECT 1 FROM gleaner.website_page k
        WHERE k.tenant_id = p.tenant_id AND k.source_id = p.source_id AND k.url = p.alias_of
          AND k.state IN ('completed', 'chunked'))
       OR p.reason = 'duplicate' AND NOT EXISTS (
        SELECT 1 FROM gleaner.website_page k
        WHERE k.tenant_id = p.tenant_id AND k.source_id = p.source_id AND k.url = p.alias_of
          AND k.content_hash = p.content_hash AND k.state IN ('fetched', 'completed', 'chunked'))
       OR p.reason = 'canonical' AND NOT EXISTS (
        SELECT 1 FROM gleaner.website_page k
        LEFT JOIN gleaner.website_page further
          ON further.tenant_id = k.tenant_id AND further.source_id = k.source_id AND further.url = k.alias_of
        WHERE k.tenant_id = p.tenant_id AND k.source_id = p.source_id AND k.url = p.alias_of
          AND (k.state IN ('fetched', 'completed', 'chunked')
               OR k.state = 'skipped' AND further.state IN ('fetched', 'completed', 'chunked'))))

-- release_held --
-- Pages whose newest content was held back: it is read and looked at again, under this run's policy.
UPDATE gleaner.website_page SET state = 'fetched', reason = NULL
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND state = 'skipped' AND reason = 'content_lost'
  AND generation IS NOT NULL

-- named_by_many --
-- Canonical addresses that several pages named since the crawl began, the largest groups: with three of the pages.
SELECT alias_of, pages[1], pages[(1 + cardinality(pages)) / 2], pages[cardinality(pages)]
FROM (SELECT p.alias_of, array_agg(p.page_id ORDER BY p.url) AS pages, bool_or(p.fetched_at >= job.started_at) AS is_new
      FROM gleaner.crawl_job job JOIN gleaner.website_page p USING (tenant_id, source_id)
      WHERE job.tenant_id = %(tenant_id)s AND job.job_id = %(job_id)s AND p.source_id = %(source_id)s
        AND p.state = 'skipped' AND p.reason = 'canonical' AND p.generation IS NOT NULL
      GROUP BY p.alias_of) AS named
WHERE is_new AND cardinality(pages) >= %(least)s
ORDER BY cardinality(pages) DESC, alias_of LIMIT %(most)s

-- newest_snapshots --
-- Newest bytes of these pages, and of the page at this address.
SELECT p.page_id, p.url, p.generation, s.body, s.content_type
FROM gleaner.website_page p
JOIN gleaner.page_snapshot s USING (tenant_id, page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s
  AND (p.page_id = ANY(%(page_ids)s) OR p.url = %(url)s)
ORDER BY p.page_id

-- disbelieve --
-- The pages that name this address speak for themselves.
UPDATE gleaner.website_page SET state = 'fetched', reason = NULL, alias_of = NULL
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND state = 'skipped' AND reason = 'canonical'
  AND alias_of = %(url)s AND generation IS NOT NULL

-- lower_fence --
-- Pages that were retired as duplicates and speak for themselves again: what they hold now may be loaded, nothing older.
UPDATE gleaner.knowledge_generation g
SET generation = mine.generation
FROM (SELECT held.source_id, held.embedding_model, p.generation
      FROM gleaner.knowledge_generation held
      JOIN gleaner.website_page p ON p.tenant_id = held.tenant_id AND p.page_id = held.source_id
      WHERE held.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state IN ('fetched', 'completed')
        AND held.chunk_count = 0 AND held.generation > p.generation
      ORDER BY held.source_id, held.embedding_model FOR UPDATE OF held) AS mine
WHERE g.tenant_id = %(tenant_id)s AND g.source_id = mine.source_id AND g.embedding_model = mine.embedding_model

-- reopen_pages --
-- Pages whose stored chunks were made by other policies or another model, near duplicates of such pages, and pages that
-- failed after they were fetched.
UPDATE gleaner.website_page p
SET state = 'fetched', reason = NULL, alias_of = NULL
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.generation IS NOT NULL
  AND (p.state = 'failed'
       OR p.state = 'chunked' AND NOT EXISTS (
            SELECT 1 FROM gleaner.knowledge_generation g
            WHERE g.tenant_id = p.tenant_id AND g.source_id = p.page_id AND g.embedding_model = %(model)s
              AND g.fingerprint = %(fingerprint)s AND g.generation >= p.generation)
       OR p.state = 'skipped' AND p.reason = 'near_duplicate' AND NOT EXISTS (
            SELECT 1 FROM gleaner.website_page k JOIN gleaner.knowledge_generation g
              ON g.tenant_id = k.tenant_id AND g.source_id = k.page_id
            WHERE k.tenant_id = p.tenant_id AND k.source_id = p.source_id AND k.url = p.alias_of
              AND g.embedding_model = %(model)s AND g.fingerprint = %(fingerprint)s))

-- reopen_without_vectors --
-- Pages with chunks that wait for their vectors; their documents are as they should be.
UPDATE gleaner.website_page p
SET state = 'completed'
FROM gleaner.page_document d
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state = 'chunked'
  AND d.tenant_id = p.tenant_id AND d.page_id = p.page_id AND d.generation = p.generation
  AND EXISTS (
        SELECT 1 FROM gleaner.tenant_knowledge k
        WHERE k.tenant_id = p.tenant_id AND k.source_id = p.page_id AND k.embedding_model = %(model)s
          AND (k.embedding IS NULL OR k.tldr_hash IS NOT NULL AND k.tldr_embedding IS NULL))

-- reopen_speechless --
-- Pages that dropped what another page kept for all, and that page is no more: the next survey finds another one.
WITH lost AS (
    SELECT d.page_id, d.spoken_for
    FROM gleaner.page_document d JOIN gleaner.website_page p USING (tenant_id, page_id)
    WHERE d.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND d.spoken_for <> '{}'
      AND (p.state = 'gone'
           OR p.state = 'skipped' AND NOT EXISTS (
                SELECT 1 FROM gleaner.tenant_knowledge k
                WHERE k.tenant_id = p.tenant_id AND k.source_id = p.page_id))
), forgotten AS (
    UPDATE gleaner.page_document d SET spoken_for = '{}'
    FROM lost WHERE d.tenant_id = %(tenant_id)s AND d.page_id = lost.page_id
)
UPDATE gleaner.website_page p SET state = 'completed'
FROM gleaner.page_document d, lost
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state = 'chunked'
  AND d.tenant_id = p.tenant_id AND d.page_id = p.page_id AND d.generation = p.generation
  AND d.dropped && lost.spoken_for

-- count_todo --
SELECT count(*) FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND state = ANY(%(states)s)

-- cut_batches --
-- Consecutive ranges of page ids, `size` pages each.
SELECT (array_agg(page_id ORDER BY page_id))[1] AS first_page,
       (array_agg(page_id ORDER BY page_id DESC))[1] AS last_page,
       count(*)::int AS pages
FROM (
    SELECT page_id, (row_number() OVER (ORDER BY page_id) - 1) / %(size)s AS batch
    FROM gleaner.website_page
    WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND state = ANY(%(states)s)
) AS numbered
GROUP BY batch ORDER BY batch

-- set_planned --
-- A second try of the plan finds less to do; the run keeps the number it began with.
UPDATE gleaner.crawl_job SET planned_pages = coalesce(planned_pages, %(planned)s)
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s

-- snapshots_of_batch --
-- Newest bytes of the pages that wait to be processed, and of those that an earlier try failed on.
SELECT p.page_id, p.url, p.generation, s.body, s.content_type
FROM gleaner.website_page p
JOIN gleaner.page_snapshot s USING (tenant_id, page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state IN ('fetched', 'failed')
  AND p.page_id BETWEEN %(first_page)s AND %(last_page)s
  AND p.page_id > %(after)s
ORDER BY p.page_id
LIMIT %(limit)s

-- documents_of_batch --
-- Documents of the pages that wait to be chunked.
SELECT p.page_id, p.url, d.generation, d.document, d.dropped
FROM gleaner.website_page p
JOIN gleaner.page_document d USING (tenant_id, page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state = 'completed'
  AND p.page_id BETWEEN %(first_page)s AND %(last_page)s AND p.page_id > %(after)s
ORDER BY p.page_id
LIMIT %(limit)s

-- lock_pages --
-- In the order in which everybody locks them, before any of them is written to.
SELECT page_id FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)s)
ORDER BY page_id
FOR NO KEY UPDATE

-- store_documents --
-- Of pages that were not forgotten meanwhile. Arrays of the same length; one of arrays has them as literals.
INSERT INTO gleaner.page_document AS d
    (tenant_id, page_id, generation, title, language, word_count, content_hash, document, block_hashes, bands)
SELECT %(tenant_id)s, page_id, done.generation, done.title, done.language, done.word_count, done.content_hash,
       done.document, done.block_hashes::bigint[], done.bands::bigint[]
FROM unnest(
    %(page_ids)s::uuid[], %(generations)s::bigint[], %(titles)b::text[], %(languages)s::text[], %(word_counts)s::int[],
    %(content_hashes)b::bytea[], %(documents)b::jsonb[], %(block_hashes)b::text[], %(bands)b::text[]
) AS done (page_id, generation, title, language, word_count, content_hash, document, block_hashes, bands)
JOIN gleaner.website_page USING (page_id)
WHERE tenant_id = %(tenant_id)s
ORDER BY page_id
ON CONFLICT (tenant_id, page_id) DO UPDATE
SET generation = excluded.generation, title = excluded.title, language = excluded.language,
    word_count = excluded.word_count, content_hash = excluded.content_hash, document = excluded.document,
    block_hashes = excluded.block_hashes, bands = excluded.bands, processed_at = now()
WHERE d.generation <= excluded.generation

-- mark_completed --
-- coalesce: the state is for no index here, of which the planner thinks better than of looking each page up.
UPDATE gleaner.website_page p SET state = 'completed', reason = NULL, missing_count = 0
FROM unnest(%(page_ids)s::uuid[], %(generations)s::bigint[]) AS done (page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = done.page_id AND p.generation = done.generation
  AND coalesce(p.state, '') IN ('fetched', 'failed')

-- mark_chunked --
-- Only pages whose newest content is what was loaded. coalesce as in mark_completed.
UPDATE gleaner.website_page p
SET state = 'chunked', reason = NULL
FROM unnest(%(page_ids)s::uuid[], %(generations)s::bigint[]) AS done (page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = done.page_id AND p.generation = done.generation
  AND coalesce(p.state, '') = 'completed'

-- mark_skipped --
-- No content here, says the process stage. Counts as evidence once a job. Pages that are loaded come from a rebuild only.
UPDATE gleaner.website_page
SET state = 'skipped', reason = %(reason)s,
    missing_count = missing_count + CASE WHEN missing_job IS DISTINCT FROM %(job_id)s THEN 1 ELSE 0 END,
    missing_job = %(job_id)s
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s AND generation = %(generation)s
  AND state IN ('fetched', 'completed', 'chunked', 'failed')

-- mark_failed --
UPDATE gleaner.website_page SET state = 'failed', reason = %(reason)s
WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s AND generation = %(generation)s
  AND state IN ('fetched', 'failed')

-- start_batch --
-- Goes on with the row of the same try: one that waited for the endpoint is begun again. Maintenance has one row for each
-- batch of a job: it begins anew every time.
INSERT INTO gleaner.batch_report AS r (tenant_id, job_id, stage, batch_index, try_number)
VALUES (%(tenant_id)s, %(job_id)s, %(stage)s, %(batch_index)s, %(try_number)s)
ON CONFLICT (tenant_id, job_id, stage, batch_index, try_number) DO UPDATE
SET finished_at = NULL,
    started_at = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN clock_timestamp() ELSE r.started_at END,
    pages = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.pages END,
    failed = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.failed END,
    skipped = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.skipped END,
    chunks = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.chunks END,
    embedded = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.embedded END,
    reused = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.reused END,
    requests = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.requests END,
    tokens = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.tokens END,
    withheld = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.withheld END,
    paused = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.paused END,
    throttled = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.throttled END,
    endpoint_failures = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.endpoint_failures END,
    limiter_waits = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.limiter_waits END,
    limiter_seconds = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.limiter_seconds END,
    created = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.created END,
    updated = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.updated END,
    unchanged = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.unchanged END,
    deleted = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.deleted END,
    stale_pages = CASE WHEN r.stage = 'renew' AND r.finished_at IS NOT NULL THEN 0 ELSE r.stale_pages END
RETURNING (SELECT coalesce(sum(e.pages - e.failed), 0)::int FROM gleaner.batch_report e
           WHERE e.tenant_id = %(tenant_id)s AND e.job_id = %(job_id)s AND e.stage = %(stage)s
             AND e.batch_index = %(batch_index)s AND e.try_number < %(try_number)s) AS earlier,
          pages, failed, skipped, chunks, embedded, reused, requests, tokens, withheld, paused, throttled, endpoint_failures,
          limiter_waits, limiter_seconds, created, updated, unchanged, deleted, stale_pages

-- batch_age --
SELECT extract(epoch FROM clock_timestamp() - started_at)::float8 FROM gleaner.batch_report
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND stage = %(stage)s AND batch_index = %(batch_index)s
  AND try_number = %(try_number)s

-- age_of_first_try --
SELECT extract(epoch FROM clock_timestamp() - min(started_at))::float8 FROM gleaner.batch_report
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND stage = %(stage)s AND batch_index = %(batch_index)s

-- report_batch --
UPDATE gleaner.batch_report
SET pages = %(pages)s, failed = %(failed)s, skipped = %(skipped)s, chunks = %(chunks)s, embedded = %(embedded)s,
    reused = %(reused)s, requests = %(requests)s, tokens = %(tokens)s, withheld = %(withheld)s, paused = %(paused)s,
    throttled = %(throttled)s, endpoint_failures = %(endpoint_failures)s, limiter_waits = %(limiter_waits)s,
    limiter_seconds = %(limiter_seconds)s, created = %(created)s, updated = %(updated)s,
    unchanged = %(unchanged)s, deleted = %(deleted)s, stale_pages = %(stale_pages)s,
    finished_at = CASE WHEN %(finished)s THEN clock_timestamp() END
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND stage = %(stage)s AND batch_index = %(batch_index)s
  AND try_number = %(try_number)s
