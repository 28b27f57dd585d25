-- A search no longer counts all rows of a large tenant: as many as decide whether the index is taken are enough.

-- Loads pgvector, without which nobody but a superuser may name its settings.
DO $$ BEGIN PERFORM '[1]'::vector; END $$;

CREATE OR REPLACE FUNCTION gleaner.search(
    tenant text, query text, query_vector vector, k integer DEFAULT 10, language text DEFAULT NULL, model text DEFAULT NULL
) RETURNS TABLE (
    score float8, similarity float8, lexical float8, source_id uuid, page_url text, chunk_type text, chunk_index integer,
    section_title text, full_text text, chunk_language text, embedding_model text
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET hnsw.iterative_scan = 'relaxed_order'
SET hnsw.ef_search = 120
SET hnsw.max_scan_tuples = 60000
SET enable_sort = on
SET jit = off
SET standard_conforming_strings = on
AS $$
#variable_conflict use_column
DECLARE
    most_exact CONSTANT bigint := 10000; -- so many chunks are compared one by one in the time that an index takes
    most_counted CONSTANT bigint := 1000; -- in so many chunks words are counted in some ten milliseconds
    depth integer := greatest(50, least(k, 1000));
    reads text := model;
    wanted integer := vector_dims(query_vector);
    tenant_rows bigint; few bigint; indexed record;
    d_source uuid[]; d_type text[]; d_index integer[]; d_distance float8[];
    l_source uuid[]; l_type text[]; l_index integer[]; l_score float8[];
    words text[]; weights float8[]; looked_for tsquery; any_word tsquery;
    told float8; -- what the words weigh that are in the best chunk
    most_lexical float8; lexical_weight float8;
BEGIN
    IF tenant IS NULL OR NOT gleaner.may_read(tenant) THEN
        RAISE EXCEPTION 'this role may not read tenant %', coalesce(quote_literal(tenant), 'null')
            USING ERRCODE = 'insufficient_privilege', HINT = 'See gleaner.reader_tenant.';
    END IF;
    IF k IS NULL OR k < 1 OR k > 1000 THEN
        RAISE EXCEPTION 'k needs to be from 1 to 1000' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF reads IS NULL THEN
        SELECT t.search_model INTO reads FROM gleaner.tenant t WHERE t.tenant_id = tenant;
    END IF;
    IF reads IS NULL THEN
        RETURN; -- nothing was ever loaded
    END IF;
    SELECT count(*) INTO tenant_rows FROM (
        SELECT 1 FROM gleaner.tenant_knowledge r
        WHERE r.tenant_id = tenant AND r.embedding_model = reads LIMIT most_exact + 1) AS first_rows;

    -- By meaning. A small tenant's chunks are compared one by one, a large one's are found by the model's index. So is
    -- a tenant with a small share of a large table: the index would have to pass by too many chunks of others.
    IF wanted IS NOT NULL THEN
        SELECT i.kind, i.dimensions INTO indexed FROM gleaner.vector_index i
        WHERE i.embedding_model = reads AND i.built_at IS NOT NULL;
        IF indexed.dimensions <> wanted THEN
            RAISE EXCEPTION 'the query''s vector has % dimensions, those of % have %', wanted, reads, indexed.dimensions
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF tenant_rows > most_exact AND indexed.kind IS NOT NULL THEN
            SELECT ceil(least(0.02 * c.reltuples, 200000)) INTO few
            FROM pg_class c WHERE c.oid = 'gleaner.tenant_knowledge'::regclass;
            IF few > most_exact THEN -- counted so far only: the index begins where the tenant's share is large enough
                SELECT count(*) INTO tenant_rows FROM (
                    SELECT 1 FROM gleaner.tenant_knowledge r
                    WHERE r.tenant_id = tenant AND r.embedding_model = reads LIMIT few) AS first_rows;
                IF tenant_rows < few THEN
                    indexed.kind := NULL;
                END IF;
            END IF;
        ELSE
            indexed.kind := NULL;
        END IF;
        IF indexed.kind IS NULL THEN
            EXECUTE '
                SELECT array_agg(f.source_id), array_agg(f.chunk_type), array_agg(f.chunk_index), array_agg(f.distance)
                FROM (SELECT source_id, chunk_type, chunk_index, least(embedding <=> $3, tldr_embedding <=> $3) AS distance
                      FROM gleaner.tenant_knowledge
                      WHERE tenant_id = $1 AND embedding_model = $2 AND embedding IS NOT NULL
                      ORDER BY distance, source_id, chunk_type, chunk_index LIMIT $4) AS f'
            INTO d_source, d_type, d_index, d_distance USING tenant, reads, query_vector, depth;
        ELSE
            -- The planner does not know what it costs to fetch vectors; the index is what this branch is for.
            PERFORM set_config('enable_sort', 'off', true);
            EXECUTE format('
                WITH near AS MATERIALIZED (
                    SELECT source_id, chunk_type, chunk_index, embedding FROM gleaner.tenant_knowledge
                    WHERE tenant_id = %1$L AND embedding_model = %2$L
                    ORDER BY (embedding::%3$s(%4$s)) <=> $1::%3$s(%4$s) LIMIT $2 * 2
                ), gist AS MATERIALIZED (
                    SELECT source_id, chunk_type, chunk_index, least(embedding <=> $1, tldr_embedding <=> $1) AS distance
                    FROM gleaner.tenant_knowledge
                    WHERE tenant_id = %1$L AND embedding_model = %2$L AND tldr_hash IS NOT NULL
                      AND tldr_embedding IS NOT NULL ORDER BY tldr_embedding <=> $1 LIMIT $2
                )
                SELECT array_agg(f.source_id), array_agg(f.chunk_type), array_agg(f.chunk_index), array_agg(f.distance)
                FROM (SELECT source_id, chunk_type, chunk_index, min(distance) AS distance FROM (
                          SELECT source_id, chunk_type, chunk_index, embedding <=> $1 AS distance FROM near
                          UNION ALL SELECT source_id, chunk_type, chunk_index, distance FROM gist) AS both_kinds
                      GROUP BY source_id, chunk_type, chunk_index
                      ORDER BY distance, source_id, chunk_type, chunk_index LIMIT $2) AS f',
                tenant, reads, indexed.kind, wanted)
            INTO d_source, d_type, d_index, d_distance USING query_vector, depth;
            PERFORM set_config('enable_sort', 'on', true);
        END IF;
    END IF;

    -- By words: any of them; the rarer a word, the more it counts.
    SELECT array_agg(quoted.word), array_agg(w.weight),
           string_agg(quoted.word, ' | ') FILTER (WHERE w.matches), string_agg(quoted.word, ' | ')
    INTO words, weights, looked_for, any_word
    FROM gleaner.search_words(query, language, tenant_rows) w,
         LATERAL (SELECT '''' || replace(replace(w.lexeme, '\', '\\'), '''', '''''') || '''' AS word) AS quoted;
    IF words IS NOT NULL AND tenant_rows <= most_counted THEN
        -- The planner's statistics are those of the large tenants, and older than a tenant that came today: here the
        -- words are counted. No condition on them: most of the rows have one, and each would be unpacked twice.
        EXECUTE '
            WITH word AS MATERIALIZED (
                SELECT number, word::tsquery AS word FROM unnest($3::text[]) WITH ORDINALITY AS u(word, number)
            ), found AS MATERIALIZED (
                SELECT source_id, chunk_type, chunk_index, search_vector || ''''::tsvector AS words
                FROM gleaner.tenant_knowledge
                WHERE tenant_id = $1 AND embedding_model = $2
            ), met AS MATERIALIZED (
                SELECT f.source_id, f.chunk_type, f.chunk_index, w.number, ts_rank(f.words, w.word, 1) AS rank
                FROM found f JOIN word w ON f.words @@ w.word
            ), weighed AS MATERIALIZED (
                SELECT number, ln(1 + $4::float8 / count(*)) AS weight FROM met GROUP BY number
            )
            SELECT array_agg(f.source_id), array_agg(f.chunk_type), array_agg(f.chunk_index), array_agg(f.score),
                   (array_agg(f.told))[1]
            FROM (SELECT source_id, chunk_type, chunk_index, sum(weight * rank) AS score, sum(weight) AS told
                  FROM met JOIN weighed USING (number)
                  GROUP BY source_id, chunk_type, chunk_index
                  ORDER BY score DESC, source_id, chunk_type, chunk_index LIMIT $5) AS f'
        INTO l_source, l_type, l_index, l_score, told USING tenant, reads, words, tenant_rows, depth;
    ELSIF looked_for IS NOT NULL THEN
        EXECUTE '
            WITH found AS MATERIALIZED (
                SELECT source_id, chunk_type, chunk_index, search_vector || ''''::tsvector AS words
                FROM gleaner.tenant_knowledge
                WHERE tenant_id = $1 AND embedding_model = $2 AND search_vector @@ $3
            ), best AS MATERIALIZED (
                SELECT * FROM found ORDER BY ts_rank(words, $4, 1) DESC, source_id, chunk_type, chunk_index LIMIT 200
            )
            SELECT array_agg(f.source_id), array_agg(f.chunk_type), array_agg(f.chunk_index), array_agg(f.score),
                   (array_agg(f.told))[1]
            FROM (SELECT source_id, chunk_type, chunk_index, sum(w.weight * ts_rank(words, w.word, 1)) AS score,
                         sum(w.weight) FILTER (WHERE words @@ w.word) AS told
                  FROM best, (SELECT word::tsquery, weight FROM unnest($5::text[], $6::float8[]) AS u(word, weight)) AS w
                  GROUP BY source_id, chunk_type, chunk_index
                  ORDER BY score DESC, source_id, chunk_type, chunk_index LIMIT $7) AS f'
        INTO l_source, l_type, l_index, l_score, told USING tenant, reads, looked_for, any_word, words, weights, depth;
    END IF;

    -- Measured by tests/quality/test_search.py. Each half counts by how near a chunk comes to the best one of that half.
    -- Words count more than meaning where they tell much: those in the best chunk have to weigh 14, two rare ones of a
    -- large tenant. Where words are not set apart by spaces, few of them are recognised.
    most_lexical := CASE WHEN language IN ('ja', 'km', 'lo', 'my', 'th', 'zh') THEN 0.5 ELSE 1.75 END;
    lexical_weight := most_lexical * least(1, told / 14);
    RETURN QUERY
    WITH near AS (
        SELECT * FROM unnest(d_source, d_type, d_index, d_distance) WITH ORDINALITY
            AS u(source_id, chunk_type, chunk_index, distance, place)
    ), dense AS (
        SELECT source_id, chunk_type, chunk_index, distance, CASE WHEN farthest > nearest
            THEN (farthest - least(distance, farthest)) / (farthest - nearest) ELSE 1 END AS share
        FROM near, (SELECT min(distance) AS nearest, max(distance) AS farthest FROM near
                    WHERE place <= 50 AND distance <> 'NaN') AS of_best -- vectors of nothing are far from all
    ), lexical AS (
        SELECT source_id, chunk_type, chunk_index, score, score / max(score) OVER () AS share
        FROM unnest(l_source, l_type, l_index, l_score) AS u(source_id, chunk_type, chunk_index, score)
    ), fused AS (
        SELECT source_id, chunk_type, chunk_index, d.distance, l.score AS lexical,
               (coalesce(d.share, 0) + coalesce(lexical_weight * l.share, 0)) / (1 + most_lexical) AS score
        FROM dense d FULL JOIN lexical l USING (source_id, chunk_type, chunk_index)
        ORDER BY score DESC, d.distance, source_id, chunk_type, chunk_index LIMIT k
    )
    SELECT f.score, 1 - f.distance, f.lexical, c.source_id, c.metadata->>'page_url', c.chunk_type, c.chunk_index,
           c.section_title, c.full_text, c.language, c.embedding_model
    FROM fused f JOIN gleaner.tenant_knowledge c
      ON c.tenant_id = tenant AND c.source_id = f.source_id AND c.chunk_type = f.chunk_type
     AND c.chunk_index = f.chunk_index AND c.embedding_model = reads
    ORDER BY f.score DESC, f.distance, c.source_id, c.chunk_type, c.chunk_index;
END $$;

-- A function that is replaced forgets where pgvector is.
DO $$
DECLARE name text;
BEGIN
    SELECT n.nspname INTO name FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';
    IF name <> 'public' THEN
        EXECUTE format('ALTER FUNCTION gleaner.search SET search_path = pg_catalog, %I, pg_temp', name);
    END IF;
END $$;
