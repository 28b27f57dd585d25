DROP TRIGGER count_inserted ON gleaner.website_page;
DROP TRIGGER count_updated ON gleaner.website_page;
DROP TRIGGER count_deleted ON gleaner.website_page;
DROP TRIGGER count_inserted ON gleaner.knowledge_generation;
DROP TRIGGER count_updated ON gleaner.knowledge_generation;
DROP TRIGGER count_deleted ON gleaner.knowledge_generation;
DROP TRIGGER count_inserted ON gleaner.tenant_knowledge;
DROP TRIGGER count_updated ON gleaner.tenant_knowledge;
DROP TRIGGER count_deleted ON gleaner.tenant_knowledge;
DROP TRIGGER count_change ON gleaner.dead_letter;
DROP TRIGGER count_change ON gleaner.batch_report;
DROP TRIGGER count_change ON gleaner.crawl_job;
DROP TRIGGER count_change ON gleaner.embedding_usage;
DROP FUNCTION gleaner.count_pages, gleaner.count_chunks, gleaner.count_missing_vector, gleaner.count_dead_letter,
    gleaner.count_batch, gleaner.count_job, gleaner.count_usage, gleaner.count_duration, gleaner.duration_bucket,
    gleaner.dead_letter_label, gleaner.fold_metrics, gleaner.recount_metrics;
DROP TABLE gleaner.knowledge_check;
DROP TABLE gleaner.metric_change;
DROP TABLE gleaner.metric_total;
ALTER TABLE gleaner.batch_report
    DROP COLUMN throttled, DROP COLUMN endpoint_failures, DROP COLUMN limiter_waits, DROP COLUMN limiter_seconds;
