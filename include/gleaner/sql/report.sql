-- Queries for those who watch a run.

-- newest_job --
SELECT job_id, source_id, state, planned_pages, finished_at IS NOT NULL, report
FROM gleaner.crawl_job WHERE tenant_id = %(tenant_id)s AND run_id = %(run_id)s
ORDER BY job_id DESC LIMIT 1

-- page_counts --
SELECT count(*) FILTER (WHERE found_job = %(job_id)s)::int AS found,
       count(*) FILTER (WHERE visited_job = %(job_id)s)::int AS fetched,
       count(*) FILTER (WHERE state = 'fetched')::int AS to_process,
       count(*) FILTER (WHERE state = 'completed')::int AS to_load
FROM gleaner.website_page WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s

-- chunk_counts --
SELECT coalesce(sum(chunks), 0)::int, coalesce(sum(embedded + reused), 0)::int
FROM gleaner.batch_report WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s

-- some_headings --
-- Three headings from all over the tenant's newest source, always the same ones.
SELECT heading FROM (
    SELECT split_part(k.section_title, ' > ', 1) AS heading, min(p.page_id::text) AS first
    FROM gleaner.tenant_knowledge k
    JOIN gleaner.website_page p ON p.tenant_id = k.tenant_id AND p.page_id = k.source_id
    WHERE k.tenant_id = %(tenant_id)s AND k.section_title <> ''
    GROUP BY 1 ORDER BY 2 LIMIT 3) AS found

-- stage_progress --
-- Pages done in one stage of a run, of them those that the newest try of each batch did, pages to do, and the seconds that
-- the newest tries took. A page on which a try failed is done again by the next one, and counts once.
SELECT coalesce(sum(b.pages - b.failed) + sum(b.failed) FILTER (WHERE b.is_newest), 0)::int,
       coalesce(sum(b.pages) FILTER (WHERE b.is_newest), 0)::int, j.planned_pages,
       coalesce(extract(epoch FROM max(coalesce(b.finished_at, clock_timestamp())) FILTER (WHERE b.is_newest AND b.pages > 0)
                                   - min(b.started_at) FILTER (WHERE b.is_newest AND b.pages > 0)), 0)::float8
FROM gleaner.crawl_job j
LEFT JOIN (SELECT pages, failed, started_at, finished_at,
                  row_number() OVER (PARTITION BY batch_index ORDER BY try_number DESC) = 1 AS is_newest
           FROM gleaner.batch_report
           WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND stage = %(stage)s) AS b ON true
WHERE j.tenant_id = %(tenant_id)s AND j.job_id = %(job_id)s
GROUP BY j.planned_pages
