-- Gleaner's schema as it is today. Migrations lead here; a test proves that both are equal.

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
CREATE SCHEMA gleaner;

CREATE TABLE gleaner.schema_migration (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE gleaner.schema_migration IS 'Applied migrations. A file that is listed here must not change any more.';

CREATE TABLE gleaner.tenant (
    tenant_id    text        PRIMARY KEY CHECK (tenant_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    search_model text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    previous_model      text,
    monthly_token_quota bigint CHECK (monthly_token_quota >= 0)
);
COMMENT ON COLUMN gleaner.tenant.search_model IS 'The embedding model whose rows readers see. One statement switches it.';
COMMENT ON COLUMN gleaner.tenant.previous_model IS 'The model that search_model replaced, until its last row is removed.';
COMMENT ON COLUMN gleaner.tenant.monthly_token_quota IS 'Tokens that may be embedded in a calendar month (UTC), over all models; null: no limit.';

CREATE TABLE gleaner.website_source (
    tenant_id  text        NOT NULL REFERENCES gleaner.tenant,
    source_id  uuid        NOT NULL,
    root_url   text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, source_id),
    UNIQUE (tenant_id, root_url)
);

CREATE TABLE gleaner.crawl_job (
    tenant_id     text        NOT NULL,
    job_id        bigint      GENERATED ALWAYS AS IDENTITY,
    source_id     uuid        NOT NULL,
    run_id        text        NOT NULL,
    state         text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'complete', 'partial', 'failed')),
    reason        text,
    conf          jsonb       NOT NULL,
    planned_pages integer,
    report        jsonb,
    started_at    timestamptz NOT NULL DEFAULT now(),
    crawled_at    timestamptz,
    finished_at   timestamptz,
    goes_on       boolean     NOT NULL DEFAULT false,
    traps         jsonb       NOT NULL DEFAULT '[]',
    PRIMARY KEY (tenant_id, job_id),
    UNIQUE (tenant_id, source_id, run_id),
    FOREIGN KEY (tenant_id, source_id) REFERENCES gleaner.website_source
);
COMMENT ON COLUMN gleaner.crawl_job.state IS
    'State of the crawl: complete when it reached everything in scope; only then may pages count as vanished.';

COMMENT ON COLUMN gleaner.crawl_job.goes_on IS 'The crawl was stopped by time or by the site: the next run of the source goes on with it.';
COMMENT ON COLUMN gleaner.crawl_job.traps IS 'Families of addresses without end that were followed so far and no further: kind, pattern, followed, left_out.';

CREATE SEQUENCE gleaner.content_generation;
COMMENT ON SEQUENCE gleaner.content_generation IS
    'Drawn when content is fetched or retired. What is loaded under a higher number is never overwritten by a lower one.';

CREATE TABLE gleaner.website_page (
    tenant_id     text        NOT NULL,
    page_id       uuid        NOT NULL,
    source_id     uuid        NOT NULL,
    url           text        NOT NULL,
    state         text        NOT NULL DEFAULT 'discovered'
                  CHECK (state IN ('discovered', 'fetched', 'completed', 'chunked', 'failed', 'gone', 'skipped')),
    reason        text,
    alias_of      text,
    depth         integer     NOT NULL,
    hops          smallint    NOT NULL DEFAULT 0,
    priority      real        NOT NULL DEFAULT 0.5,
    http_status   integer,
    etag          text,
    last_modified text,
    content_hash  bytea,
    generation    bigint,
    found_job     bigint      NOT NULL,
    visited_job   bigint,
    missing_count smallint    NOT NULL DEFAULT 0,
    missing_job   bigint,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    checked_at    timestamptz,
    fetched_at    timestamptz,
    PRIMARY KEY (tenant_id, page_id),
    UNIQUE (tenant_id, source_id, url),
    FOREIGN KEY (tenant_id, source_id) REFERENCES gleaner.website_source
);
COMMENT ON COLUMN gleaner.website_page.generation IS 'Generation of the newest snapshot; null until content was fetched.';
COMMENT ON COLUMN gleaner.website_page.found_job IS 'The newest crawl that saw a link or sitemap entry for the page.';
COMMENT ON COLUMN gleaner.website_page.visited_job IS 'The newest crawl that asked for the page. found_job above it: still in the frontier.';
COMMENT ON COLUMN gleaner.website_page.missing_count IS 'Crawls in a row that found no content here; two are evidence enough to delete.';
COMMENT ON COLUMN gleaner.website_page.hops IS 'Redirects that led here from the last page that was linked.';
CREATE INDEX website_page_frontier ON gleaner.website_page (tenant_id, source_id, found_job, visited_job);
CREATE INDEX website_page_state ON gleaner.website_page (tenant_id, source_id, state, page_id);
CREATE INDEX website_page_content ON gleaner.website_page (tenant_id, source_id, content_hash);

CREATE TABLE gleaner.page_snapshot (
    tenant_id    text        NOT NULL,
    page_id      uuid        NOT NULL,
    generation   bigint      NOT NULL,
    body         bytea       NOT NULL,
    raw_bytes    integer     NOT NULL,
    content_type text        NOT NULL,
    links        text[]      NOT NULL,
    fetched_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, page_id, generation),
    FOREIGN KEY (tenant_id, page_id) REFERENCES gleaner.website_page ON DELETE CASCADE
);
COMMENT ON COLUMN gleaner.page_snapshot.body IS 'zlib-compressed bytes of the response, content encoding undone.';
COMMENT ON COLUMN gleaner.page_snapshot.links IS 'Canonical URLs linked from the page, so that an unchanged page need not be parsed again.';
ALTER TABLE gleaner.page_snapshot ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE gleaner.page_document (
    tenant_id    text        NOT NULL,
    page_id      uuid        NOT NULL,
    generation   bigint      NOT NULL,
    title        text        NOT NULL,
    language     text        NOT NULL,
    word_count   integer     NOT NULL,
    content_hash bytea       NOT NULL,
    document     jsonb       NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now(),
    block_hashes bigint[]    NOT NULL DEFAULT '{}',
    bands        bigint[]    NOT NULL DEFAULT '{}',
    dropped      bigint[]    NOT NULL DEFAULT '{}',
    spoken_for   bigint[]    NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, page_id),
    FOREIGN KEY (tenant_id, page_id) REFERENCES gleaner.website_page ON DELETE CASCADE
);
COMMENT ON COLUMN gleaner.page_document.block_hashes IS 'What the document is made of: a hash for each block, lone heading and fact.';
COMMENT ON COLUMN gleaner.page_document.bands IS 'Of its MinHash; pages that share one may be near duplicates.';
COMMENT ON COLUMN gleaner.page_document.dropped IS 'Of block_hashes, those that most pages of the site have and another page speaks for.';
COMMENT ON COLUMN gleaner.page_document.spoken_for IS 'Of block_hashes, those that most pages have and this page alone keeps.';

CREATE TABLE gleaner.tenant_knowledge (
    tenant_id       text        NOT NULL,
    source_id       uuid        NOT NULL,
    chunk_type      text        NOT NULL CHECK (chunk_type IN ('website', 'faq', 'product', 'manual')),
    chunk_index     integer     NOT NULL CHECK (chunk_index >= 0),
    embedding_model text        NOT NULL,
    section_title   text        NOT NULL,
    full_text       text        NOT NULL CHECK (full_text <> ''),
    tldr            text,
    language        text        NOT NULL,
    token_count     integer     NOT NULL,
    word_count      integer     NOT NULL,
    text_hash       bytea       NOT NULL,
    content_hash    bytea       NOT NULL,
    embedding       vector,
    search_vector   tsvector    NOT NULL,
    metadata        jsonb       NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    tldr_hash       bytea,
    tldr_embedding  vector,
    CONSTRAINT unique_chunk_per_source UNIQUE (tenant_id, source_id, chunk_type, chunk_index, embedding_model),
    FOREIGN KEY (tenant_id, source_id) REFERENCES gleaner.website_page (tenant_id, page_id)
);
COMMENT ON COLUMN gleaner.tenant_knowledge.source_id IS 'The page: website_page.page_id.';
COMMENT ON COLUMN gleaner.tenant_knowledge.text_hash IS 'SHA-256 of the text that was embedded. A vector is asked for once per tenant, model and text_hash.';
COMMENT ON COLUMN gleaner.tenant_knowledge.content_hash IS 'SHA-256 over every stored column and whether there is a vector: equal hash, nothing to write.';
COMMENT ON COLUMN gleaner.tenant_knowledge.tldr_hash IS 'SHA-256 of the breadcrumb and gist that were embedded; null unless the run asked for it.';
CREATE INDEX tenant_knowledge_tldr_hash ON gleaner.tenant_knowledge (tenant_id, embedding_model, tldr_hash) WHERE tldr_hash IS NOT NULL;
CREATE INDEX tenant_knowledge_text_hash ON gleaner.tenant_knowledge (tenant_id, embedding_model, text_hash);
CREATE INDEX tenant_knowledge_search ON gleaner.tenant_knowledge USING gin (search_vector);
ALTER TABLE gleaner.tenant_knowledge REPLICA IDENTITY USING INDEX unique_chunk_per_source;

CREATE TABLE gleaner.knowledge_generation (
    tenant_id       text        NOT NULL,
    source_id       uuid        NOT NULL,
    embedding_model text        NOT NULL,
    generation      bigint      NOT NULL,
    fingerprint     text        NOT NULL,
    set_hash        bytea       NOT NULL,
    chunk_count     integer     NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, source_id, embedding_model),
    FOREIGN KEY (tenant_id, source_id) REFERENCES gleaner.website_page (tenant_id, page_id)
);
COMMENT ON TABLE gleaner.knowledge_generation IS
    'Which generation of each page is loaded, per model: the fence that a slower, older writer cannot pass.';
COMMENT ON COLUMN gleaner.knowledge_generation.fingerprint IS 'Of the chunk and embed policies. Another fingerprint means: chunk again.';

CREATE TABLE gleaner.pending_embedding (
    tenant_id       text        NOT NULL REFERENCES gleaner.tenant,
    embedding_model text        NOT NULL,
    text_hash       bytea       NOT NULL,
    embedding       vector      NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, embedding_model, text_hash)
);
COMMENT ON TABLE gleaner.pending_embedding IS
    'Vectors that were paid for and are not loaded yet. A task that dies between asking and loading finds them here.';

CREATE TABLE gleaner.dead_letter (
    tenant_id   text        NOT NULL,
    stage       text        NOT NULL CHECK (stage IN ('crawl', 'process', 'embed', 'load')),
    page_id     uuid        NOT NULL,
    item        text        NOT NULL DEFAULT '',
    reason      text        NOT NULL,
    detail      text        NOT NULL DEFAULT '',
    attempts    integer     NOT NULL DEFAULT 1,
    job_id      bigint,
    first_at    timestamptz NOT NULL DEFAULT now(),
    last_at     timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    PRIMARY KEY (tenant_id, stage, page_id, item),
    FOREIGN KEY (tenant_id, page_id) REFERENCES gleaner.website_page ON DELETE CASCADE
);
COMMENT ON COLUMN gleaner.dead_letter.item IS 'Empty for a whole page; chunk_type/chunk_index for a chunk.';

CREATE TABLE gleaner.batch_report (
    tenant_id   text        NOT NULL,
    job_id      bigint      NOT NULL,
    stage       text        NOT NULL CHECK (stage IN ('process', 'load', 'estimate', 'renew')),
    batch_index integer     NOT NULL,
    try_number  integer     NOT NULL,
    pages       integer     NOT NULL DEFAULT 0,
    failed      integer     NOT NULL DEFAULT 0,
    skipped     integer     NOT NULL DEFAULT 0,
    chunks      integer     NOT NULL DEFAULT 0,
    embedded    integer     NOT NULL DEFAULT 0,
    reused      integer     NOT NULL DEFAULT 0,
    requests    integer     NOT NULL DEFAULT 0,
    tokens      bigint      NOT NULL DEFAULT 0,
    created     integer     NOT NULL DEFAULT 0,
    updated     integer     NOT NULL DEFAULT 0,
    unchanged   integer     NOT NULL DEFAULT 0,
    deleted     integer     NOT NULL DEFAULT 0,
    stale_pages integer     NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    withheld    integer     NOT NULL DEFAULT 0,
    paused      integer     NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, job_id, stage, batch_index, try_number),
    FOREIGN KEY (tenant_id, job_id) REFERENCES gleaner.crawl_job ON DELETE CASCADE
);
COMMENT ON TABLE gleaner.batch_report IS 'What each try of each mapped task did. Sums over it are the accounting of a run.';
COMMENT ON COLUMN gleaner.batch_report.withheld IS 'Texts whose vector was not asked for, because the quota of the month is spent.';
COMMENT ON COLUMN gleaner.batch_report.paused IS 'Texts whose vector was not asked for, because the endpoint failed again and again.';

CREATE TABLE gleaner.embedding_usage (
    tenant_id       text   NOT NULL REFERENCES gleaner.tenant,
    embedding_model text   NOT NULL,
    month           date   NOT NULL,
    requests        bigint NOT NULL DEFAULT 0,
    inputs          bigint NOT NULL DEFAULT 0,
    tokens          bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, embedding_model, month)
);
COMMENT ON TABLE gleaner.embedding_usage IS
    'What was paid for, by month (UTC): written in the transaction that stores the vectors.';

CREATE TABLE gleaner.token_reservation (
    tenant_id  text        NOT NULL REFERENCES gleaner.tenant,
    holder     text        NOT NULL,
    tokens     bigint      NOT NULL,
    held_until timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, holder)
);
COMMENT ON TABLE gleaner.token_reservation IS
    'Tokens of the monthly quota that running tasks are about to spend. One of a task that died ends by itself.';

CREATE UNLOGGED TABLE gleaner.site_pace (
    site         text             PRIMARY KEY,
    next_turn    timestamptz      NOT NULL DEFAULT '-infinity',
    delay        double precision NOT NULL DEFAULT 0,
    delay_until  timestamptz      NOT NULL DEFAULT '-infinity',
    penalty      double precision NOT NULL DEFAULT 0,
    penalized_at timestamptz      NOT NULL DEFAULT '-infinity',
    wanted_at    timestamptz      NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE gleaner.site_pace IS
    'When each site may be asked again, over all crawls. A site belongs to no tenant. Unlogged: a pace that a crash forgets is no loss.';
COMMENT ON COLUMN gleaner.site_pace.delay IS 'Seconds between two requests that the slowest crawl of late asks for.';
COMMENT ON COLUMN gleaner.site_pace.penalty IS 'Seconds between two requests because the site said 429 or 503; grows by doubling, shrinks by answers.';
COMMENT ON COLUMN gleaner.site_pace.wanted_at IS 'When a crawl last found no free slot: those who hold some give them back.';

CREATE UNLOGGED TABLE gleaner.site_slot (
    site       text        NOT NULL,
    slot       smallint    NOT NULL,
    holder     uuid        NOT NULL,
    held_until timestamptz NOT NULL,
    PRIMARY KEY (site, slot)
);
COMMENT ON TABLE gleaner.site_slot IS 'Requests that a site may get at once: a lease each, which ends by itself when its holder dies.';

CREATE UNLOGGED TABLE gleaner.endpoint_state (
    endpoint   text        PRIMARY KEY,
    state      text        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE gleaner.endpoint_state IS
    'The token bucket and the circuit breaker of each embedding endpoint, for all workers and tenants. Unlogged: what a crash forgets is a pause of seconds.';
