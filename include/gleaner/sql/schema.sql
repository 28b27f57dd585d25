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
    refresh_every interval DEFAULT '1 day' CHECK (refresh_every >= interval '1 hour'),
    paused        boolean  NOT NULL DEFAULT false,
    params        jsonb,
    PRIMARY KEY (tenant_id, source_id),
    UNIQUE (tenant_id, root_url)
);
COMMENT ON COLUMN gleaner.website_source.refresh_every IS 'How often refresh_websites ingests it again; null: never.';
COMMENT ON COLUMN gleaner.website_source.params IS 'The Params of the last ingest_website that could crawl it: what a refresh repeats.';

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
    kind          text        NOT NULL DEFAULT 'crawl' CHECK (kind IN ('crawl', 'rebuild', 'mend')),
    PRIMARY KEY (tenant_id, job_id),
    UNIQUE (tenant_id, source_id, run_id),
    FOREIGN KEY (tenant_id, source_id) REFERENCES gleaner.website_source
);
COMMENT ON COLUMN gleaner.crawl_job.state IS
    'State of the crawl: complete when it reached everything in scope; only then may pages count as vanished.';

COMMENT ON COLUMN gleaner.crawl_job.kind IS 'crawl of ingest_website, rebuild of rebuild_knowledge, mend of maintain_knowledge. Only crawls fetch.';
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
CREATE INDEX website_page_fetched ON gleaner.website_page (fetched_at) WHERE generation IS NOT NULL;
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
CREATE INDEX tenant_knowledge_by_text ON gleaner.tenant_knowledge (text_hash, tenant_id, embedding_model);
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
    throttled         integer          NOT NULL DEFAULT 0,
    endpoint_failures integer          NOT NULL DEFAULT 0,
    limiter_waits     integer          NOT NULL DEFAULT 0,
    limiter_seconds   double precision NOT NULL DEFAULT 0,
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

CREATE TABLE gleaner.forgotten (
    tenant_id    text        NOT NULL REFERENCES gleaner.tenant,
    target_id    uuid        NOT NULL,
    source_id    uuid        NOT NULL,
    url          text        NOT NULL,
    forgotten_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, target_id)
);
COMMENT ON TABLE gleaner.forgotten IS
    'Pages and websites that were removed on request. No crawl takes them in again until their row here is removed.';
COMMENT ON COLUMN gleaner.forgotten.target_id IS 'The page_id; or the source_id, for a whole website.';

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

-- ---- Search and readers: what migration 0007 added

-- Two roles of the cluster. Whoever runs the pipeline without owning the tables needs gleaner_writer; applications that
-- only read need gleaner_reader.
DO $$
DECLARE role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['gleaner_reader', 'gleaner_writer'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role_name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of the cluster was migrated at this moment
        END;
    END LOOP;
END $$;

CREATE TABLE gleaner.reader_tenant (
    role_name name NOT NULL,
    tenant_id text NOT NULL REFERENCES gleaner.tenant ON DELETE CASCADE,
    PRIMARY KEY (role_name, tenant_id)
);
COMMENT ON TABLE gleaner.reader_tenant IS
    'Login roles that are bound to some tenants. A role without a row here names the tenant of each session or search itself.';

CREATE TABLE gleaner.vector_index (
    embedding_model text        PRIMARY KEY,
    dimensions      integer     NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('vector', 'halfvec')),
    index_name      text        NOT NULL,
    built_at        timestamptz
);
COMMENT ON TABLE gleaner.vector_index IS 'HNSW indexes by model. A model belongs to no tenant. Without built_at it is not used by searches.';

CREATE FUNCTION gleaner.may_read(tenant text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (SELECT 1 FROM gleaner.reader_tenant b WHERE b.role_name = session_user)
        OR EXISTS (SELECT 1 FROM gleaner.reader_tenant b WHERE b.role_name = session_user AND b.tenant_id = tenant)
$$;
COMMENT ON FUNCTION gleaner.may_read IS 'Whether the login role of this session may read the tenant; see reader_tenant.';

CREATE FUNCTION gleaner.readable_tenant() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN gleaner.may_read(named) THEN named END FROM current_setting('gleaner.tenant', true) AS named
$$;
COMMENT ON FUNCTION gleaner.readable_tenant IS 'The tenant that the session named with SET gleaner.tenant, if its login role may read it; else null.';

-- The form of a text that lexical search compares, as the load stage stores it. Letter case by a collation that knows
-- Unicode, where the server has one.
DO $do$
DECLARE unicode text;
BEGIN
    SELECT format('COLLATE %I', collname) INTO unicode FROM pg_collation
    WHERE collname IN ('pg_unicode_fast', 'pg_c_utf8', 'und-x-icu')
    ORDER BY array_position(ARRAY['pg_unicode_fast', 'pg_c_utf8', 'und-x-icu'], collname::text) LIMIT 1;
    EXECUTE format($create$
CREATE FUNCTION gleaner.fold(value text, language text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $body$
DECLARE folded text;
BEGIN
    folded := normalize(replace(translate(lower(value %s), 'ıς', 'iσ'), 'ß', 'ss'), NFKD);
    folded := regexp_replace(folded,
        '[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06ed]', '', 'g');
    folded := translate(folded, U&'٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹०१२३४५६७८९\200c\200d', '012345678901234567890123456789 ');
    IF language = 'fa' OR language IS NULL AND value ~ '[پچژگکی]' THEN
        folded := translate(folded, 'يىكةە', 'ییکهه');
    END IF;
    RETURN normalize(folded, NFC);
END $body$
    $create$, coalesce(unicode, ''));
END $do$;
COMMENT ON FUNCTION gleaner.fold IS
    'Text as words are compared: case, diacritics, digits and compatibility forms levelled out. Without a language, Persian is told by its letters.';

CREATE FUNCTION gleaner.search_words(query text, language text DEFAULT NULL, tenant_rows bigint DEFAULT NULL)
RETURNS TABLE (lexeme text, weight float8, matches boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Without a language Arabic letters may be meant as Persian ones: both forms are looked for.
    folded text := CASE WHEN language IS NULL
        THEN gleaner.fold(left(query, 2000), 'und') || ' ' || gleaner.fold(left(query, 2000), 'fa')
        ELSE gleaner.fold(left(query, 2000), language) END;
    common text[]; shares real[]; total float8; rare float8;
BEGIN
    SELECT s.most_common_elems::text::text[], s.most_common_elem_freqs INTO common, shares
    FROM pg_stats s
    WHERE s.schemaname = 'gleaner' AND s.tablename = 'tenant_knowledge' AND s.attname = 'search_vector';
    SELECT greatest(c.reltuples, 1) INTO total FROM pg_class c WHERE c.oid = 'gleaner.tenant_knowledge'::regclass;
    -- Behind the shares of the listed words stands the smallest of them: no other word is in more chunks.
    rare := coalesce(shares[cardinality(common) + 1] / 2, 0.001);
    RETURN QUERY
    WITH word AS (
        SELECT found.lexeme, coalesce(shares[array_position(common, found.lexeme)]::float8, rare) AS share
        FROM unnest(tsvector_to_array(to_tsvector('simple', folded)
                    || to_tsvector('simple', regexp_replace(folded, '\W+', ' ', 'g')))) AS found(lexeme)
        ORDER BY 2, 1 LIMIT 24
    ), counted AS (
        SELECT w.lexeme, w.share, row_number() OVER ranked AS place,
               sum(least(w.share * total, coalesce(tenant_rows::float8, w.share * total))) OVER ranked AS rows_so_far
        FROM word w WINDOW ranked AS (ORDER BY w.share, w.lexeme)
    )
    SELECT c.lexeme, ln(1 + 1 / (c.share + 0.00001)), c.place = 1 OR c.rows_so_far <= 4000 FROM counted c;
END $$;
COMMENT ON FUNCTION gleaner.search_words IS
    'The words of a query with what they weigh (the logarithm of how rare they are, by the statistics of the planner). Common ones do not look for chunks, but count in those that others found.';

-- Loads pgvector, without which nobody but a superuser may name its settings.
DO $$ BEGIN PERFORM '[1]'::vector; END $$;

CREATE FUNCTION gleaner.search(
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
COMMENT ON FUNCTION gleaner.search IS
    'The best k chunks of one tenant, by the nearness of their meaning and by words in common, fused by how near each chunk comes to the best one of either half. Without a vector by words alone, without words by the vector alone. Give the model that made the vector: without it the one that readers see is taken.';

CREATE FUNCTION gleaner.is_due(attempts integer, last_at timestamptz, first_delay interval, last_attempt integer)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
RETURN attempts < last_attempt AND last_at <= now() - first_delay * power(4, attempts - 1);
COMMENT ON FUNCTION gleaner.is_due IS
    'Whether a failure that was met so often is to be tried again by itself: after the first delay, then after four times as long each time, and after the last attempt never.';

CREATE FUNCTION gleaner.in_parts(tenant_ids text[], source_ids uuid[], page_ids uuid[], size integer)
RETURNS TABLE (tenant_id text, source_id uuid, first_page uuid, last_page uuid, pages integer)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH numbered AS (
        SELECT p.tenant_id, p.source_id, p.page_id,
               (row_number() OVER (PARTITION BY p.tenant_id, p.source_id ORDER BY p.page_id) - 1) / size AS part
        FROM unnest(tenant_ids, source_ids, page_ids) AS p (tenant_id, source_id, page_id)
    )
    SELECT n.tenant_id, n.source_id, (array_agg(n.page_id ORDER BY n.page_id))[1],
           (array_agg(n.page_id ORDER BY n.page_id DESC))[1], count(*)::integer
    FROM numbered n GROUP BY n.tenant_id, n.source_id, n.part
    ORDER BY row_number() OVER (PARTITION BY n.tenant_id ORDER BY n.part, n.source_id), n.tenant_id;
END;
COMMENT ON FUNCTION gleaner.in_parts IS
    'Pages in ranges of one source each, so many at most; tenants in fair turns, so that the first range of each tenant comes before the second of any.';

-- Vectors stay beside their row: a search that compares many chunks would fetch each from elsewhere.
ALTER TABLE gleaner.tenant_knowledge ALTER COLUMN embedding SET STORAGE MAIN;

DO $$
DECLARE name text;
BEGIN
    -- Where pgvector is: its operators are needed inside of search, whose search_path is fixed.
    SELECT n.nspname INTO name FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';
    IF name <> 'public' THEN
        EXECUTE format('ALTER FUNCTION gleaner.search SET search_path = pg_catalog, %I, pg_temp', name);
    END IF;
    FOR name IN SELECT table_name FROM information_schema.columns
                WHERE table_schema = 'gleaner' AND column_name = 'tenant_id' AND table_name <> 'reader_tenant' LOOP
        EXECUTE format('ALTER TABLE gleaner.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY one_tenant ON gleaner.%I FOR SELECT TO gleaner_reader '
                       'USING (tenant_id = (SELECT gleaner.readable_tenant()))', name);
        EXECUTE format('CREATE POLICY every_tenant ON gleaner.%I TO gleaner_writer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT ON gleaner.%I TO gleaner_reader', name);
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA gleaner TO gleaner_reader, gleaner_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA gleaner TO gleaner_writer;
GRANT SELECT ON gleaner.schema_migration TO gleaner_reader;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA gleaner TO gleaner_writer;
REVOKE INSERT, UPDATE, DELETE ON gleaner.reader_tenant, gleaner.schema_migration FROM gleaner_writer;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gleaner FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA gleaner TO gleaner_reader, gleaner_writer;

CREATE INDEX tenant_knowledge_without_vector ON gleaner.tenant_knowledge (embedding_model, tenant_id, source_id)
    WHERE embedding IS NULL OR (tldr_hash IS NOT NULL AND tldr_embedding IS NULL);
CREATE INDEX dead_letter_open ON gleaner.dead_letter (tenant_id, last_at, stage, page_id, item)
    WHERE resolved_at IS NULL;

-- ---- Metrics: numbers that the database keeps up itself, for /gleaner/metrics

COMMENT ON COLUMN gleaner.batch_report.throttled IS 'Requests that the endpoint answered with 429, or asked to be sent later.';
COMMENT ON COLUMN gleaner.batch_report.limiter_waits IS 'Times that requests waited for a turn under the shared limits; limiter_seconds: how long together.';

CREATE TABLE gleaner.metric_total (
    tenant_id text             NOT NULL,
    source_id uuid             NOT NULL,
    name      text             NOT NULL,
    label     text             NOT NULL,
    amount    double precision NOT NULL,
    PRIMARY KEY (tenant_id, source_id, name, label)
);
COMMENT ON TABLE gleaner.metric_total IS
    'Numbers that would take a look at every row: with metric_change they are exact. Those of no tenant have an empty tenant_id, those of no source a source_id of zeros.';

CREATE TABLE gleaner.metric_change (
    change_id bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text             NOT NULL,
    source_id uuid             NOT NULL,
    name      text             NOT NULL,
    label     text             NOT NULL,
    amount    double precision NOT NULL
);
COMMENT ON TABLE gleaner.metric_change IS
    'What changed since it was last added to metric_total: rows that are only added, so that nobody waits for anybody.';
ALTER TABLE gleaner.metric_change SET (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE gleaner.knowledge_check (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    checked_at timestamptz NOT NULL,
    report     jsonb       NOT NULL
);
COMMENT ON TABLE gleaner.knowledge_check IS 'What maintain_knowledge found when it last looked over the knowledge.';

CREATE FUNCTION gleaner.fold_metrics() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE folded bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('gleaner.metric_change', 0)) THEN
        RETURN 0; -- another one is at it
    END IF;
    WITH gone AS (
        DELETE FROM gleaner.metric_change RETURNING tenant_id, source_id, name, label, amount
    ), added AS (
        INSERT INTO gleaner.metric_total AS t (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, source_id, name, label, sum(amount) FROM gone GROUP BY tenant_id, source_id, name, label
        ON CONFLICT (tenant_id, source_id, name, label) DO UPDATE SET amount = t.amount + excluded.amount
    )
    SELECT count(*) INTO folded FROM gone;
    DELETE FROM gleaner.metric_total WHERE tenant_id <> '' AND amount = 0;
    RETURN folded;
END $$;
COMMENT ON FUNCTION gleaner.fold_metrics IS 'Adds metric_change up into metric_total; how many rows that were. Changes no number: what is read is always the sum of both.';

CREATE FUNCTION gleaner.duration_bucket(seconds double precision) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT min(bound)::text FROM unnest(ARRAY[1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400])
                     AS bound WHERE seconds <= bound), '+Inf')
$$;
COMMENT ON FUNCTION gleaner.duration_bucket IS 'The bucket of a histogram of durations, by its upper bound in seconds.';

CREATE FUNCTION gleaner.count_duration(name text, label text, seconds double precision) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
    VALUES ('', '00000000-0000-0000-0000-000000000000', name || '_bucket', label || '/' || gleaner.duration_bucket(seconds), 1),
           ('', '00000000-0000-0000-0000-000000000000', name || '_sum', label, greatest(seconds, 0))
$$;

CREATE FUNCTION gleaner.count_pages() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, source_id, 'pages', state, count(*) FROM new_rows GROUP BY tenant_id, source_id, state
        UNION ALL
        SELECT '', '00000000-0000-0000-0000-000000000000', 'page_transitions', state, count(*) FROM new_rows GROUP BY state;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, source_id, 'pages', state, -count(*) FROM old_rows GROUP BY tenant_id, source_id, state;
    ELSE
        WITH moved AS MATERIALIZED (
            SELECT n.tenant_id, n.source_id, o.state AS was, n.state AS is_now, count(*) AS pages
            FROM old_rows o JOIN new_rows n ON n.tenant_id = o.tenant_id AND n.page_id = o.page_id
            WHERE o.state <> n.state
            GROUP BY n.tenant_id, n.source_id, o.state, n.state
        )
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, source_id, 'pages', was, -pages FROM moved
        UNION ALL SELECT tenant_id, source_id, 'pages', is_now, pages FROM moved
        UNION ALL SELECT '', '00000000-0000-0000-0000-000000000000', 'page_transitions', is_now, pages FROM moved;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.count_chunks() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, '00000000-0000-0000-0000-000000000000', 'chunks', embedding_model, -sum(chunk_count)
        FROM old_rows GROUP BY tenant_id, embedding_model HAVING sum(chunk_count) <> 0;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, '00000000-0000-0000-0000-000000000000', 'chunks', embedding_model, sum(chunk_count)
        FROM new_rows GROUP BY tenant_id, embedding_model HAVING sum(chunk_count) <> 0;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.count_missing_vector() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE row_of record := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
        is_missing boolean := TG_OP <> 'DELETE' AND (
            row_of.embedding IS NULL OR (row_of.tldr_hash IS NOT NULL AND row_of.tldr_embedding IS NULL));
BEGIN
    INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
    VALUES (row_of.tenant_id, '00000000-0000-0000-0000-000000000000', 'chunks_without_vector', row_of.embedding_model,
            CASE WHEN is_missing THEN 1 ELSE -1 END);
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.dead_letter_label(stage text, reason text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT stage || '/' || CASE WHEN stage = 'embed' THEN 'refused'
        ELSE left(regexp_replace(split_part(reason, ':', 1), '[^A-Za-z0-9_]+', '_', 'g'), 40) END
$$;
COMMENT ON FUNCTION gleaner.dead_letter_label IS 'Stage and kind of a failure, without what differs from page to page. What an endpoint says of a text is its own words.';

CREATE FUNCTION gleaner.count_dead_letter() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.resolved_at IS NULL) = (NEW.resolved_at IS NULL) AND OLD.reason = NEW.reason THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' AND OLD.resolved_at IS NULL THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        VALUES (OLD.tenant_id, '00000000-0000-0000-0000-000000000000', 'dead_letters', gleaner.dead_letter_label(OLD.stage, OLD.reason), -1);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.resolved_at IS NULL THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        VALUES (NEW.tenant_id, '00000000-0000-0000-0000-000000000000', 'dead_letters', gleaner.dead_letter_label(NEW.stage, NEW.reason), 1);
    END IF;
    RETURN NULL;
END $$;

-- Counters only grow: a row of maintenance that begins anew takes nothing back.
CREATE FUNCTION gleaner.count_batch() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE was gleaner.batch_report;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was := OLD;
    END IF;
    INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
    SELECT '', '00000000-0000-0000-0000-000000000000', name, label, is_now - was_before FROM (VALUES
        ('chunk_writes', 'created', NEW.created::float8, coalesce(was.created, 0)::float8),
        ('chunk_writes', 'updated', NEW.updated, coalesce(was.updated, 0)),
        ('chunk_writes', 'unchanged', NEW.unchanged, coalesce(was.unchanged, 0)),
        ('chunk_writes', 'deleted', NEW.deleted, coalesce(was.deleted, 0)),
        ('vectors_reused', '', NEW.reused, coalesce(was.reused, 0)),
        ('texts_postponed', 'quota', NEW.withheld, coalesce(was.withheld, 0)),
        ('texts_postponed', 'breaker', NEW.paused, coalesce(was.paused, 0)),
        ('stale_pages', '', NEW.stale_pages, coalesce(was.stale_pages, 0)),
        ('endpoint_throttled', '', NEW.throttled, coalesce(was.throttled, 0)),
        ('endpoint_failures', '', NEW.endpoint_failures, coalesce(was.endpoint_failures, 0)),
        ('limiter_waits', '', NEW.limiter_waits, coalesce(was.limiter_waits, 0)),
        ('limiter_wait_seconds', '', NEW.limiter_seconds, coalesce(was.limiter_seconds, 0))
    ) AS found (name, label, is_now, was_before) WHERE is_now > was_before;
    IF NEW.finished_at IS NOT NULL AND was.finished_at IS NULL THEN
        PERFORM gleaner.count_duration('stage_seconds', NEW.stage, extract(epoch FROM NEW.finished_at - NEW.started_at)::float8);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.count_job() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.crawled_at IS NULL AND NEW.crawled_at IS NOT NULL THEN
        PERFORM gleaner.count_duration('stage_seconds', 'crawl', extract(epoch FROM NEW.crawled_at - NEW.started_at)::float8);
    END IF;
    IF OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL THEN
        PERFORM gleaner.count_duration('run_seconds', NEW.kind, extract(epoch FROM NEW.finished_at - NEW.started_at)::float8);
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        VALUES ('', '00000000-0000-0000-0000-000000000000', 'runs', NEW.kind || '/' || NEW.state, 1);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.count_usage() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE was gleaner.embedding_usage;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was := OLD;
    END IF;
    INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
    SELECT '', '00000000-0000-0000-0000-000000000000', name, NEW.embedding_model, more FROM (VALUES
        ('embedding_requests', NEW.requests - coalesce(was.requests, 0)),
        ('embedding_inputs', NEW.inputs - coalesce(was.inputs, 0)),
        ('embedding_tokens', NEW.tokens - coalesce(was.tokens, 0))
    ) AS found (name, more) WHERE more > 0;
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.recount_metrics() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('gleaner.metric_change', 0)); -- nobody adds up meanwhile
    -- One statement sees one moment: rows with the changes that led to them, and of later ones neither.
    WITH gone AS (
        DELETE FROM gleaner.metric_change
        WHERE name IN ('pages', 'chunks', 'chunks_without_vector', 'dead_letters') RETURNING tenant_id, source_id, name, label
    ), counted AS (
        SELECT tenant_id, source_id, 'pages' AS name, state AS label, count(*)::float8 AS amount FROM gleaner.website_page GROUP BY tenant_id, source_id, state
        UNION ALL
        SELECT tenant_id, '00000000-0000-0000-0000-000000000000', 'chunks', embedding_model, sum(chunk_count)
        FROM gleaner.knowledge_generation GROUP BY tenant_id, embedding_model HAVING sum(chunk_count) <> 0
        UNION ALL
        SELECT tenant_id, '00000000-0000-0000-0000-000000000000', 'chunks_without_vector', embedding_model, count(*)
        FROM gleaner.tenant_knowledge WHERE embedding IS NULL OR (tldr_hash IS NOT NULL AND tldr_embedding IS NULL)
        GROUP BY tenant_id, embedding_model
        UNION ALL
        SELECT tenant_id, '00000000-0000-0000-0000-000000000000', 'dead_letters', gleaner.dead_letter_label(stage, reason), count(*)
        FROM gleaner.dead_letter WHERE resolved_at IS NULL GROUP BY tenant_id, gleaner.dead_letter_label(stage, reason)
    ), known AS (
        SELECT tenant_id, source_id, name, label FROM gleaner.metric_total
        WHERE name IN ('pages', 'chunks', 'chunks_without_vector', 'dead_letters')
    )
    INSERT INTO gleaner.metric_total AS t (tenant_id, source_id, name, label, amount)
    SELECT tenant_id, source_id, name, label, coalesce(c.amount, 0)
    FROM counted c FULL JOIN known k USING (tenant_id, source_id, name, label)
    ON CONFLICT (tenant_id, source_id, name, label) DO UPDATE SET amount = excluded.amount;
END $$;
COMMENT ON FUNCTION gleaner.recount_metrics IS 'Counts anew what is there, row by row, while everybody goes on. Counters stay as they are.';

-- From here on every change is counted.
CREATE TRIGGER count_inserted AFTER INSERT ON gleaner.website_page
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_pages();
CREATE TRIGGER count_updated AFTER UPDATE ON gleaner.website_page
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_pages();
CREATE TRIGGER count_deleted AFTER DELETE ON gleaner.website_page
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_pages();
CREATE TRIGGER count_inserted AFTER INSERT ON gleaner.knowledge_generation
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_chunks();
CREATE TRIGGER count_updated AFTER UPDATE ON gleaner.knowledge_generation
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_chunks();
CREATE TRIGGER count_deleted AFTER DELETE ON gleaner.knowledge_generation
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_chunks();
CREATE TRIGGER count_inserted AFTER INSERT ON gleaner.tenant_knowledge FOR EACH ROW
    WHEN (NEW.embedding IS NULL OR (NEW.tldr_hash IS NOT NULL AND NEW.tldr_embedding IS NULL))
    EXECUTE FUNCTION gleaner.count_missing_vector();
CREATE TRIGGER count_updated AFTER UPDATE ON gleaner.tenant_knowledge FOR EACH ROW
    WHEN ((OLD.embedding IS NULL OR (OLD.tldr_hash IS NOT NULL AND OLD.tldr_embedding IS NULL))
          <> (NEW.embedding IS NULL OR (NEW.tldr_hash IS NOT NULL AND NEW.tldr_embedding IS NULL)))
    EXECUTE FUNCTION gleaner.count_missing_vector();
CREATE TRIGGER count_deleted AFTER DELETE ON gleaner.tenant_knowledge FOR EACH ROW
    WHEN (OLD.embedding IS NULL OR (OLD.tldr_hash IS NOT NULL AND OLD.tldr_embedding IS NULL))
    EXECUTE FUNCTION gleaner.count_missing_vector();
CREATE TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE ON gleaner.dead_letter
    FOR EACH ROW EXECUTE FUNCTION gleaner.count_dead_letter();
CREATE TRIGGER count_change AFTER INSERT OR UPDATE ON gleaner.batch_report
    FOR EACH ROW WHEN (NEW.stage <> 'estimate') EXECUTE FUNCTION gleaner.count_batch();
CREATE TRIGGER count_change AFTER UPDATE ON gleaner.crawl_job FOR EACH ROW
    WHEN (OLD.crawled_at IS NULL AND NEW.crawled_at IS NOT NULL OR OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION gleaner.count_job();
CREATE TRIGGER count_change AFTER INSERT OR UPDATE ON gleaner.embedding_usage
    FOR EACH ROW EXECUTE FUNCTION gleaner.count_usage();

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['metric_total', 'metric_change'] LOOP
        EXECUTE format('ALTER TABLE gleaner.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY one_tenant ON gleaner.%I FOR SELECT TO gleaner_reader '
                       'USING (tenant_id = (SELECT gleaner.readable_tenant()))', name);
        EXECUTE format('CREATE POLICY every_tenant ON gleaner.%I TO gleaner_writer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT ON gleaner.%I TO gleaner_reader', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON gleaner.metric_total, gleaner.metric_change, gleaner.knowledge_check TO gleaner_writer;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA gleaner TO gleaner_writer;
REVOKE ALL ON FUNCTION gleaner.fold_metrics, gleaner.recount_metrics, gleaner.duration_bucket, gleaner.count_duration, gleaner.count_pages,
    gleaner.count_chunks, gleaner.count_missing_vector, gleaner.dead_letter_label, gleaner.count_dead_letter,
    gleaner.count_batch, gleaner.count_job, gleaner.count_usage FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gleaner.fold_metrics, gleaner.recount_metrics, gleaner.duration_bucket, gleaner.count_duration,
    gleaner.dead_letter_label TO gleaner_writer;

CREATE INDEX website_page_waiting ON gleaner.website_page (fetched_at) WHERE state IN ('fetched', 'completed');
CREATE INDEX crawl_job_open ON gleaner.crawl_job (kind, started_at) WHERE finished_at IS NULL;
CREATE INDEX crawl_job_started ON gleaner.crawl_job (tenant_id, source_id, started_at) WHERE kind = 'crawl';
-- ---- End of the metrics
