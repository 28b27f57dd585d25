-- Queries of rebuild_knowledge. %(tenant_id)s is one tenant, or null for all of them. What counts as the page's time is when its
-- newest content was fetched: a page that changed since belongs to a later day, and no older day touches it.

-- parts_of_interval --
-- Ranges of pages of one source each, `size` pages at most; tenants in fair turns.
WITH wanted AS (
    SELECT p.tenant_id, p.source_id, p.page_id
    FROM gleaner.website_page p
    WHERE p.fetched_at >= %(since)s AND p.fetched_at < %(until)s AND p.generation IS NOT NULL
      AND (%(tenant_id)s::text IS NULL OR p.tenant_id = %(tenant_id)s)
      AND (%(stage)s::text = 'process' AND p.state IN ('fetched', 'completed', 'chunked', 'failed')
           OR %(stage)s::text <> 'process' AND p.state IN ('completed', 'chunked')
              AND EXISTS (SELECT 1 FROM gleaner.page_document d
                          WHERE d.tenant_id = p.tenant_id AND d.page_id = p.page_id AND d.generation = p.generation))
      AND (%(stage)s::text <> 'embed'
           OR NOT EXISTS (SELECT 1 FROM gleaner.knowledge_generation g
                          WHERE g.tenant_id = p.tenant_id AND g.source_id = p.page_id
                            AND g.embedding_model = %(model)s AND g.generation >= p.generation)
           OR EXISTS (SELECT 1 FROM gleaner.tenant_knowledge k
                      WHERE k.tenant_id = p.tenant_id AND k.source_id = p.page_id AND k.embedding_model = %(model)s
                        AND (k.embedding IS NULL OR k.tldr_hash IS NOT NULL AND k.tldr_embedding IS NULL)))
)
SELECT part.*
FROM (SELECT array_agg(tenant_id) AS tenants, array_agg(source_id) AS sources, array_agg(page_id) AS pages FROM wanted) w,
     gleaner.in_parts(w.tenants, w.sources, w.pages, %(size)s) AS part

-- create_job --
-- One job per run and source, whose mapped tasks report to it. It is no crawl, and none of the crawl's queries sees it.
INSERT INTO gleaner.crawl_job AS j (tenant_id, source_id, run_id, conf, kind, state, crawled_at)
VALUES (%(tenant_id)s, %(source_id)s, %(run_id)s, %(conf)s, %(kind)s, 'complete', clock_timestamp())
ON CONFLICT (tenant_id, source_id, run_id) DO UPDATE SET conf = excluded.conf, finished_at = NULL
RETURNING job_id

-- snapshots_of_interval --
-- Newest bytes of the pages of a part, as long as their newest content is of the interval.
SELECT p.page_id, p.url, p.generation, s.body, s.content_type
FROM gleaner.website_page p
JOIN gleaner.page_snapshot s USING (tenant_id, page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s
  AND p.state IN ('fetched', 'completed', 'chunked', 'failed')
  AND p.page_id BETWEEN %(first_page)s AND %(last_page)s AND p.page_id > %(after)s
  AND p.fetched_at >= %(since)s AND p.fetched_at < %(until)s
ORDER BY p.page_id
LIMIT %(limit)s

-- documents_of_interval --
-- Documents of the pages of a part, as long as their newest content is of the interval.
SELECT p.page_id, p.url, d.generation, d.document, d.dropped
FROM gleaner.website_page p
JOIN gleaner.page_document d USING (tenant_id, page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state IN ('completed', 'chunked')
  AND p.page_id BETWEEN %(first_page)s AND %(last_page)s AND p.page_id > %(after)s
  AND p.fetched_at >= %(since)s AND p.fetched_at < %(until)s
ORDER BY p.page_id
LIMIT %(limit)s

-- not_rebuilt --
-- Pages of the interval with a document that are not loaded under the model, and no failure says why.
SELECT count(*)::int FROM gleaner.website_page p
JOIN gleaner.page_document d USING (tenant_id, page_id, generation)
WHERE p.fetched_at >= %(since)s AND p.fetched_at < %(until)s AND p.state IN ('completed', 'chunked')
  AND (%(tenant_id)s::text IS NULL OR p.tenant_id = %(tenant_id)s)
  AND NOT EXISTS (SELECT 1 FROM gleaner.knowledge_generation g
                  WHERE g.tenant_id = p.tenant_id AND g.source_id = p.page_id AND g.embedding_model = %(model)s
                    AND g.generation >= p.generation)
  AND NOT EXISTS (SELECT 1 FROM gleaner.dead_letter l
                  WHERE l.tenant_id = p.tenant_id AND l.page_id = p.page_id AND l.resolved_at IS NULL AND l.stage <> 'crawl')

-- without_content --
-- Pages that this job found to be no content, and which still have chunks. Locked: while they are skipped, no newer content of
-- theirs can be loaded.
SELECT p.page_id FROM gleaner.website_page p
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state = 'skipped' AND p.missing_job = %(job_id)s
  AND EXISTS (SELECT 1 FROM gleaner.tenant_knowledge k WHERE k.tenant_id = p.tenant_id AND k.source_id = p.page_id)
ORDER BY p.page_id FOR UPDATE OF p

-- jobs_of_run --
-- The sources that a run works on.
SELECT j.tenant_id, j.source_id, j.job_id FROM gleaner.crawl_job j
WHERE j.run_id = %(run_id)s AND j.kind = %(kind)s AND (%(tenant_id)s::text IS NULL OR j.tenant_id = %(tenant_id)s)
ORDER BY j.tenant_id, j.job_id

-- finish_job --
UPDATE gleaner.crawl_job SET report = %(report)s, finished_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s

-- totals --
-- What the mapped tasks of one job did, counted by the database.
SELECT coalesce(sum(pages) FILTER (WHERE stage = 'process'), 0)::int AS processed,
       coalesce(sum(failed), 0)::int AS failed, coalesce(sum(skipped), 0)::int AS no_content,
       coalesce(sum(pages) FILTER (WHERE stage IN ('load', 'estimate')), 0)::int AS loaded,
       coalesce(sum(chunks) FILTER (WHERE stage IN ('load', 'estimate')), 0)::int AS chunks,
       coalesce(sum(embedded), 0)::int AS embedded, coalesce(sum(reused), 0)::int AS reused,
       coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(created), 0)::int AS created,
       coalesce(sum(updated), 0)::int AS updated, coalesce(sum(unchanged), 0)::int AS unchanged,
       coalesce(sum(deleted), 0)::int AS deleted, coalesce(sum(stale_pages), 0)::int AS stale_pages
FROM gleaner.batch_report WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s
