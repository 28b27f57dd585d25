-- Failures that are not mended are listed newest first, however many were mended.

-- step build --
CREATE INDEX CONCURRENTLY dead_letter_open ON gleaner.dead_letter (tenant_id, last_at, stage, page_id, item)
    WHERE resolved_at IS NULL
