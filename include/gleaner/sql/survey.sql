-- Queries over the documents of a whole site: what repeats on it, and which pages say nearly the same.

-- lock_source --
-- One survey of a source at a time.
SELECT source_id FROM gleaner.website_source
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s FOR NO KEY UPDATE

-- repeats --
-- Hashes on more than the given share of the pages. Near duplicates count, too: what a site repeats does not depend on
-- what was made of its pages before.
WITH documents AS (
    SELECT d.block_hashes FROM gleaner.page_document d
    JOIN gleaner.website_page p USING (tenant_id, page_id, generation)
    WHERE d.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s
      AND (p.state IN ('completed', 'chunked') OR p.state = 'skipped' AND p.reason = 'near_duplicate')
)
SELECT hash FROM documents, unnest(block_hashes) AS hash
GROUP BY hash
HAVING count(*) >= %(least)s AND count(*) > %(share)s * (SELECT count(*) FROM documents)
ORDER BY hash

-- overwriting --
-- Pages whose documents are of newer bytes than all that is loaded of them.
SELECT p.page_id FROM gleaner.website_page p
JOIN gleaner.page_document d USING (tenant_id, page_id, generation)
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state = 'completed'
  AND EXISTS (SELECT 1 FROM gleaner.tenant_knowledge k WHERE k.tenant_id = p.tenant_id AND k.source_id = p.page_id)
  AND NOT EXISTS (SELECT 1 FROM gleaner.knowledge_generation g
                  WHERE g.tenant_id = p.tenant_id AND g.source_id = p.page_id AND g.generation >= p.generation)
ORDER BY p.page_id

-- at_stake --
-- Pages of the source that have chunks, and those of them that have no content any more.
SELECT count(*)::int, count(*) FILTER (WHERE p.state = 'skipped' AND p.alias_of IS NULL)::int
FROM gleaner.website_page p
WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s
  AND EXISTS (SELECT 1 FROM gleaner.tenant_knowledge k WHERE k.tenant_id = p.tenant_id AND k.source_id = p.page_id)

-- before_and_after --
-- What a page says now, and what is loaded of it under one of its models.
SELECT d.document, (SELECT coalesce(string_agg(k.full_text, E'\n' ORDER BY k.chunk_type, k.chunk_index), '')
                    FROM gleaner.tenant_knowledge k
                    WHERE k.tenant_id = d.tenant_id AND k.source_id = d.page_id
                      AND k.embedding_model = (SELECT min(o.embedding_model) FROM gleaner.tenant_knowledge o
                                               WHERE o.tenant_id = d.tenant_id AND o.source_id = d.page_id))
FROM gleaner.page_document d WHERE d.tenant_id = %(tenant_id)s AND d.page_id = %(page_id)s

-- hold --
-- These pages say nothing that may take the place of what is known of them.
UPDATE gleaner.website_page SET state = 'skipped', reason = 'content_lost', alias_of = NULL
WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)s) AND state = 'completed'

-- candidates --
-- Pages that share a band with another one, with those bands; the shortest address comes first, and what a complete crawl
-- found no longer last.
WITH last_crawl AS (
    SELECT job_id, state FROM gleaner.crawl_job
    WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND kind = 'crawl' ORDER BY job_id DESC LIMIT 1
), ranked AS (
    SELECT p.page_id, p.url, d.bands,
           row_number() OVER (ORDER BY coalesce(p.found_job < last_crawl.job_id, false), length(p.url), p.url) AS rank
    FROM gleaner.page_document d
    JOIN gleaner.website_page p USING (tenant_id, page_id, generation)
    LEFT JOIN last_crawl ON last_crawl.state = 'complete'
    WHERE d.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s
      AND (p.state IN ('completed', 'chunked') OR p.state = 'skipped' AND p.reason = 'near_duplicate')
), banded AS (
    SELECT rank, band, count(*) OVER (PARTITION BY number, band) AS pages
    FROM ranked, unnest(bands) WITH ORDINALITY AS numbered (band, number)
)
SELECT ranked.page_id, ranked.url, array_agg(banded.band ORDER BY banded.band)
FROM banded JOIN ranked USING (rank)
WHERE banded.pages > 1
GROUP BY ranked.rank, ranked.page_id, ranked.url
ORDER BY ranked.rank

-- document --
SELECT document FROM gleaner.page_document WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s

-- mark_near_duplicates --
-- The given pages are near duplicates, each of the page at its address, and no others are.
WITH news AS (
    SELECT p.page_id, found.alias_of
    FROM gleaner.website_page p
    LEFT JOIN unnest(%(page_ids)s::uuid[], %(aliases)s::text[]) AS found (page_id, alias_of) USING (page_id)
    WHERE p.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s
      AND (p.state IN ('completed', 'chunked') OR p.state = 'skipped' AND p.reason = 'near_duplicate')
)
UPDATE gleaner.website_page p
SET state = CASE WHEN news.alias_of IS NULL THEN 'completed' ELSE 'skipped' END,
    reason = CASE WHEN news.alias_of IS NULL THEN NULL ELSE 'near_duplicate' END, alias_of = news.alias_of
FROM news
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = news.page_id
  AND (news.alias_of IS NOT NULL OR p.state = 'skipped')
  AND (p.state, p.alias_of) IS DISTINCT FROM ('skipped', news.alias_of)

-- settle_repeats --
-- Of each repeat the first page with chunks of its own keeps it, by length of address; all others drop it. Those whose
-- share changed are chunked again.
WITH pages AS (
    SELECT d.page_id, d.block_hashes, row_number() OVER (ORDER BY length(p.url), p.url) AS rank
    FROM gleaner.page_document d
    JOIN gleaner.website_page p USING (tenant_id, page_id, generation)
    WHERE d.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state IN ('completed', 'chunked')
), repeated AS (
    SELECT page_id, hash, rank = min(rank) OVER (PARTITION BY hash) AS speaks
    FROM pages, unnest(block_hashes) AS hash
    WHERE hash = ANY(%(repeats)s::bigint[])
), settled AS (
    SELECT pages.page_id,
           coalesce(array_agg(hash ORDER BY hash) FILTER (WHERE NOT speaks), '{}') AS dropped,
           coalesce(array_agg(hash ORDER BY hash) FILTER (WHERE speaks), '{}') AS spoken_for
    FROM pages LEFT JOIN repeated USING (page_id)
    GROUP BY pages.page_id
), changed AS (
    UPDATE gleaner.page_document d
    SET dropped = settled.dropped, spoken_for = settled.spoken_for
    FROM settled, gleaner.page_document before
    WHERE d.tenant_id = %(tenant_id)s AND d.page_id = settled.page_id
      AND before.tenant_id = %(tenant_id)s AND before.page_id = d.page_id
      AND (d.dropped, d.spoken_for) IS DISTINCT FROM (settled.dropped, settled.spoken_for)
    RETURNING d.page_id, before.dropped IS DISTINCT FROM settled.dropped AS says_something_else
)
UPDATE gleaner.website_page p SET state = 'completed'
FROM changed
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = changed.page_id AND p.state = 'chunked' AND changed.says_something_else

-- dropped_blocks --
-- How many blocks of how many pages are left to another page.
SELECT coalesce(sum(cardinality(d.dropped)), 0)::int, count(*) FILTER (WHERE d.dropped <> '{}')::int
FROM gleaner.page_document d
JOIN gleaner.website_page p USING (tenant_id, page_id, generation)
WHERE d.tenant_id = %(tenant_id)s AND p.source_id = %(source_id)s AND p.state IN ('completed', 'chunked')
