-- Queries that remove what a tenant wants forgotten. Locks are taken in the order of the load stage: pages, then fences.

-- page --
-- A page, and whether its website begins with it.
SELECT p.source_id, p.url, p.url = s.root_url FROM gleaner.website_page p
JOIN gleaner.website_source s USING (tenant_id, source_id)
WHERE p.tenant_id = %(tenant_id)s AND p.page_id = %(page_id)s

-- source --
SELECT root_url FROM gleaner.website_source WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s

-- note --
-- From here on no crawl takes it in.
INSERT INTO gleaner.forgotten (tenant_id, target_id, source_id, url)
VALUES (%(tenant_id)s, %(target_id)s, %(source_id)s, %(url)s)
ON CONFLICT (tenant_id, target_id) DO NOTHING

-- pause --
UPDATE gleaner.website_source SET paused = true
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s AND NOT paused

-- list --
-- What was forgotten, the newest first; websites whose rows are not all removed yet are among it.
SELECT f.target_id, f.source_id, f.url, f.target_id = f.source_id AS is_website, f.forgotten_at,
       EXISTS (SELECT FROM gleaner.website_source s
               WHERE s.tenant_id = f.tenant_id AND s.source_id = f.target_id) AS is_under_way
FROM gleaner.forgotten f WHERE f.tenant_id = %(tenant_id)s
ORDER BY f.forgotten_at DESC, f.target_id LIMIT 1000

-- unfinished --
-- Websites that were begun to be forgotten and are not gone: whoever did it was stopped. %(tenant_id)s: null for all.
SELECT s.tenant_id, s.source_id FROM gleaner.forgotten f
JOIN gleaner.website_source s ON s.tenant_id = f.tenant_id AND s.source_id = f.target_id
WHERE %(tenant_id)s::text IS NULL OR s.tenant_id = %(tenant_id)s
ORDER BY s.tenant_id, s.source_id

-- come_back --
-- Pages that are kept out and were found by a crawl at the very moment that they were forgotten.
SELECT p.tenant_id, p.page_id FROM gleaner.forgotten f
JOIN gleaner.website_page p ON p.tenant_id = f.tenant_id AND p.page_id = f.target_id
WHERE %(tenant_id)s::text IS NULL OR p.tenant_id = %(tenant_id)s
ORDER BY p.tenant_id, p.page_id LIMIT 1000

-- allow --
-- What was forgotten may be taken in again. A website's pages with it; not while it is still being removed.
DELETE FROM gleaner.forgotten f
WHERE f.tenant_id = %(tenant_id)s AND (f.target_id = %(target_id)s OR f.source_id = %(target_id)s)
  AND NOT EXISTS (SELECT FROM gleaner.website_source s
                  WHERE s.tenant_id = f.tenant_id AND s.source_id = f.target_id)

-- forgotten_at --
SELECT forgotten_at FROM gleaner.forgotten WHERE tenant_id = %(tenant_id)s AND target_id = %(target_id)s

-- some_pages --
SELECT page_id FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s ORDER BY page_id LIMIT %(most)s

-- lock_pages --
SELECT FROM gleaner.website_page
WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)s) ORDER BY page_id FOR UPDATE

-- lock_fences --
SELECT FROM gleaner.knowledge_generation
WHERE tenant_id = %(tenant_id)s AND source_id = ANY(%(page_ids)s) ORDER BY source_id, embedding_model FOR UPDATE

-- delete_vectors --
-- Vectors of the pages' texts that were paid for and not loaded. A page that says the same pays for its own.
DELETE FROM gleaner.pending_embedding
WHERE tenant_id = %(tenant_id)s AND text_hash IN (
    SELECT unnest(ARRAY[text_hash, tldr_hash]) FROM gleaner.tenant_knowledge
    WHERE tenant_id = %(tenant_id)s AND source_id = ANY(%(page_ids)s))

-- delete_chunks --
DELETE FROM gleaner.tenant_knowledge WHERE tenant_id = %(tenant_id)s AND source_id = ANY(%(page_ids)s)

-- delete_fences --
DELETE FROM gleaner.knowledge_generation WHERE tenant_id = %(tenant_id)s AND source_id = ANY(%(page_ids)s)

-- delete_pages --
-- With their snapshots, documents and failures.
DELETE FROM gleaner.website_page WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)s)

-- delete_jobs --
-- With the reports of their batches.
DELETE FROM gleaner.crawl_job WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s

-- delete_source --
DELETE FROM gleaner.website_source WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s
