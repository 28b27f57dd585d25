-- Queries of the search. The tenant is an argument of each; the model is the one the tenant's readers see.

-- search_model --
SELECT search_model FROM gleaner.tenant WHERE tenant_id = %(tenant_id)s

-- search --
-- All of the work is in the function: see its comment.
SELECT score, similarity, lexical, source_id, page_url, chunk_type, chunk_index, section_title, full_text, chunk_language
FROM gleaner.search(%(tenant_id)s, %(query)s, %(vector)s, %(limit)s::integer, %(language)s, %(model)s)
