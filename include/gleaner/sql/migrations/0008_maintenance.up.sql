-- What maintain_knowledge looks for every hour is found without reading the whole table.

CREATE INDEX tenant_knowledge_without_vector ON gleaner.tenant_knowledge (embedding_model, tenant_id, source_id)
    WHERE embedding IS NULL OR (tldr_hash IS NOT NULL AND tldr_embedding IS NULL);
