-- Queries of the load stage. The order of the statements in one transaction is what makes it safe; see load/store.py.

-- create_staging --
-- What is to be loaded, before any lock is taken: a client that freezes here blocks nobody.
CREATE TEMP TABLE IF NOT EXISTS gleaner_staging (
    source_id     uuid    NOT NULL,
    chunk_type    text    NOT NULL,
    chunk_index   integer NOT NULL,
    section_title text    NOT NULL,
    full_text     text    NOT NULL,
    tldr          text,
    language      text    NOT NULL,
    token_count   integer NOT NULL,
    word_count    integer NOT NULL,
    text_hash     bytea   NOT NULL,
    content_hash  bytea   NOT NULL,
    embedding     vector,
    search_text   text    NOT NULL,
    metadata      jsonb   NOT NULL,
    tldr_hash     bytea,
    tldr_embedding vector
) ON COMMIT DELETE ROWS

-- copy_staging --
COPY gleaner_staging (
    source_id, chunk_type, chunk_index, section_title, full_text, tldr, language,
    token_count, word_count, text_hash, content_hash, embedding, search_text, metadata,
    tldr_hash, tldr_embedding
) FROM STDIN (FORMAT BINARY)

-- loaded_sets --
-- What is loaded of these pages: the probe that lets an identical reload write nothing. Rows are counted, so that what
-- somebody removed behind the fence's back is written again.
SELECT source_id, generation, fingerprint, set_hash,
       (SELECT count(*)::int FROM gleaner.tenant_knowledge k
        WHERE k.tenant_id = g.tenant_id AND k.source_id = g.source_id AND k.embedding_model = g.embedding_model)
FROM gleaner.knowledge_generation g
WHERE tenant_id = %(tenant_id)s AND embedding_model = %(model)s AND source_id = ANY(%(page_ids)s)

-- pass_fence --
-- Takes the lock of each page's generation row, in the order of the ids, and lets the newest writer through.
-- A page that does not come back has newer content already, was retired, or was forgotten: its row is gone.
INSERT INTO gleaner.knowledge_generation AS g
    (tenant_id, source_id, embedding_model, generation, fingerprint, set_hash, chunk_count)
SELECT %(tenant_id)s, page_id, %(model)s, generation, fingerprint, set_hash, chunk_count
FROM unnest(%(page_ids)s::uuid[], %(generations)s::bigint[], %(fingerprints)s::text[],
            %(set_hashes)s::bytea[], %(chunk_counts)s::integer[])
     AS new (page_id, generation, fingerprint, set_hash, chunk_count)
JOIN (SELECT page_id FROM gleaner.website_page WHERE tenant_id = %(tenant_id)s AND page_id = ANY(%(page_ids)s)
      ORDER BY page_id FOR KEY SHARE) AS there USING (page_id)
ORDER BY page_id
ON CONFLICT (tenant_id, source_id, embedding_model) DO UPDATE
SET generation = excluded.generation, fingerprint = excluded.fingerprint, set_hash = excluded.set_hash,
    chunk_count = excluded.chunk_count, updated_at = now()
WHERE g.generation <= excluded.generation
RETURNING source_id

-- upsert_chunks --
-- Writes only rows that differ. The fence is held, so nobody changes these pages' rows meanwhile. LIMIT keeps the planner,
-- which knows nothing of a tenant that came today, from reading all of its rows instead of looking each one up.
INSERT INTO gleaner.tenant_knowledge AS k
    (tenant_id, source_id, chunk_type, chunk_index, embedding_model, section_title, full_text, tldr, language,
     token_count, word_count, text_hash, content_hash, embedding, search_vector, metadata, tldr_hash,
     tldr_embedding)
SELECT %(tenant_id)s, s.source_id, s.chunk_type, s.chunk_index, %(model)s, s.section_title, s.full_text, s.tldr,
       s.language, s.token_count, s.word_count, s.text_hash, s.content_hash, s.embedding,
       to_tsvector('simple', s.search_text), s.metadata, s.tldr_hash, s.tldr_embedding
FROM gleaner_staging s
LEFT JOIN LATERAL (
    SELECT k.content_hash FROM gleaner.tenant_knowledge k
    WHERE k.tenant_id = %(tenant_id)s AND k.source_id = s.source_id AND k.chunk_type = s.chunk_type
      AND k.chunk_index = s.chunk_index AND k.embedding_model = %(model)s
    LIMIT 1
) AS old ON true
WHERE s.source_id = ANY(%(page_ids)s) AND old.content_hash IS DISTINCT FROM s.content_hash
ORDER BY s.source_id, s.chunk_type, s.chunk_index
ON CONFLICT ON CONSTRAINT unique_chunk_per_source DO UPDATE
SET section_title = excluded.section_title, full_text = excluded.full_text, tldr = excluded.tldr,
    language = excluded.language, token_count = excluded.token_count, word_count = excluded.word_count,
    text_hash = excluded.text_hash, content_hash = excluded.content_hash, embedding = excluded.embedding,
    search_vector = excluded.search_vector, metadata = excluded.metadata, tldr_hash = excluded.tldr_hash,
    tldr_embedding = excluded.tldr_embedding, updated_at = now()
RETURNING (k.xmax = 0) AS created

-- delete_tail --
-- Chunks that the newest version of these pages no longer has.
DELETE FROM gleaner.tenant_knowledge k
WHERE k.tenant_id = %(tenant_id)s AND k.embedding_model = %(model)s AND k.source_id = ANY(%(page_ids)s)
  AND NOT EXISTS (
        SELECT 1 FROM gleaner_staging s
        WHERE s.source_id = k.source_id AND s.chunk_type = k.chunk_type AND s.chunk_index = k.chunk_index)

-- stored_rows --
-- What is there now, as the database says.
SELECT coalesce(sum(there.rows), 0)::int
FROM unnest(%(page_ids)s::uuid[]) AS page (page_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS rows FROM gleaner.tenant_knowledge k
    WHERE k.tenant_id = %(tenant_id)s AND k.embedding_model = %(model)s AND k.source_id = page.page_id
) AS there

-- known_vectors --
-- Vectors this tenant already has for these texts: loaded with any page, or paid for and not loaded yet. Each is looked up
-- (see upsert_chunks).
SELECT wanted.text_hash, vector_send(known.embedding)
FROM unnest(%(hashes)s::bytea[]) AS wanted (text_hash)
CROSS JOIN LATERAL (
    (SELECT k.embedding FROM gleaner.tenant_knowledge k
     WHERE k.tenant_id = %(tenant_id)s AND k.embedding_model = %(model)s AND k.text_hash = wanted.text_hash
       AND k.embedding IS NOT NULL LIMIT 1)
    UNION ALL
    (SELECT k.tldr_embedding FROM gleaner.tenant_knowledge k
     WHERE k.tenant_id = %(tenant_id)s AND k.embedding_model = %(model)s AND k.tldr_hash = wanted.text_hash
       AND k.tldr_embedding IS NOT NULL LIMIT 1)
    UNION ALL
    (SELECT p.embedding FROM gleaner.pending_embedding p
     WHERE p.tenant_id = %(tenant_id)s AND p.embedding_model = %(model)s AND p.text_hash = wanted.text_hash LIMIT 1)
    LIMIT 1
) AS known

-- create_vector_staging --
CREATE TEMP TABLE IF NOT EXISTS gleaner_vector_staging (
    text_hash bytea  NOT NULL,
    embedding vector NOT NULL
) ON COMMIT DELETE ROWS

-- copy_vector_staging --
COPY gleaner_vector_staging (text_hash, embedding) FROM STDIN (FORMAT BINARY)

-- keep_vectors --
-- Stores vectors the moment they are paid for.
INSERT INTO gleaner.pending_embedding (tenant_id, embedding_model, text_hash, embedding)
SELECT DISTINCT ON (text_hash) %(tenant_id)s, %(model)s, text_hash, embedding
FROM gleaner_vector_staging
ORDER BY text_hash
ON CONFLICT DO NOTHING

-- charge --
-- In the transaction that stores the vectors: what is counted was paid for, what was paid for and kept is counted.
INSERT INTO gleaner.embedding_usage AS u (tenant_id, embedding_model, month, requests, inputs, tokens)
VALUES (%(tenant_id)s, %(model)s, date_trunc('month', now() AT TIME ZONE 'UTC')::date,
        %(requests)s, %(inputs)s, %(tokens)s)
ON CONFLICT (tenant_id, embedding_model, month) DO UPDATE
SET requests = u.requests + excluded.requests, inputs = u.inputs + excluded.inputs, tokens = u.tokens + excluded.tokens

-- drop_pending --
-- Vectors that are loaded now.
DELETE FROM gleaner.pending_embedding
WHERE tenant_id = %(tenant_id)s AND embedding_model = %(model)s AND text_hash = ANY(%(hashes)s)

-- write_dead_letter --
-- Of a page that was not forgotten meanwhile.
INSERT INTO gleaner.dead_letter AS d (tenant_id, stage, page_id, item, reason, detail, job_id)
SELECT %(tenant_id)s, %(stage)s, page_id, %(item)s, %(reason)s, %(detail)s, %(job_id)s
FROM gleaner.website_page WHERE tenant_id = %(tenant_id)s AND page_id = %(page_id)s FOR KEY SHARE
ON CONFLICT (tenant_id, stage, page_id, item) DO UPDATE
SET reason = excluded.reason, detail = excluded.detail, job_id = excluded.job_id, last_at = now(),
    resolved_at = NULL,
    attempts = CASE WHEN d.resolved_at IS NOT NULL THEN 1  -- mended meanwhile: a failure of its own
                    WHEN d.job_id IS DISTINCT FROM excluded.job_id OR d.last_at < now() - interval '30 minutes'
                    THEN d.attempts + 1 ELSE d.attempts END

-- resolve_dead_letters --
UPDATE gleaner.dead_letter SET resolved_at = now()
WHERE tenant_id = %(tenant_id)s AND stage = ANY(%(stages)s) AND page_id = ANY(%(page_ids)s) AND resolved_at IS NULL
