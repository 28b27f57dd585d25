-- Queries of the search. The tenant is an argument of each; the model is the one the tenant's readers see.

-- search_model --
SELECT search_model FROM gleaner.tenant WHERE tenant_id = %(tenant_id)s

-- hybrid --
-- Chunks by both of: nearness of the vector, or of the gist's if it has one (exact, within the tenant) and words in common (any of the query's words).
-- Each half gives its best `depth`; ranks are fused as weight / (60 + rank), so that scores of two kinds need no scale.
WITH dense AS MATERIALIZED (
    SELECT source_id, chunk_type, chunk_index,
           row_number() OVER (ORDER BY least(embedding <=> %(vector)s::vector, tldr_embedding <=> %(vector)s::vector), source_id, chunk_type, chunk_index) AS rank
    FROM gleaner.tenant_knowledge
    WHERE tenant_id = %(tenant_id)s AND embedding_model = %(model)s AND embedding IS NOT NULL
    ORDER BY least(embedding <=> %(vector)s::vector, tldr_embedding <=> %(vector)s::vector), source_id, chunk_type, chunk_index
    LIMIT %(depth)s
), lexical AS MATERIALIZED (
    SELECT source_id, chunk_type, chunk_index,
           row_number() OVER (ORDER BY ts_rank_cd(search_vector, %(words)s::tsquery, 1) DESC,
                                       source_id, chunk_type, chunk_index) AS rank
    FROM gleaner.tenant_knowledge
    WHERE tenant_id = %(tenant_id)s AND embedding_model = %(model)s AND search_vector @@ %(words)s::tsquery
    ORDER BY ts_rank_cd(search_vector, %(words)s::tsquery, 1) DESC, source_id, chunk_type, chunk_index
    LIMIT %(depth)s
), fused AS (
    SELECT source_id, chunk_type, chunk_index,
           coalesce(%(dense_weight)s::float8 / (60 + dense.rank), 0)
           + coalesce(%(lexical_weight)s::float8 / (60 + lexical.rank), 0) AS score
    FROM dense FULL JOIN lexical USING (source_id, chunk_type, chunk_index)
)
SELECT fused.score, k.metadata->>'page_url', k.chunk_type, k.chunk_index, k.section_title, k.full_text, k.language
FROM fused
JOIN gleaner.tenant_knowledge k
  ON k.tenant_id = %(tenant_id)s AND k.source_id = fused.source_id AND k.chunk_type = fused.chunk_type
 AND k.chunk_index = fused.chunk_index AND k.embedding_model = %(model)s
ORDER BY fused.score DESC, k.source_id, k.chunk_type, k.chunk_index
LIMIT %(limit)s
