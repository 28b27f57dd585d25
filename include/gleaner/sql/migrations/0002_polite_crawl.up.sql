-- The crawls' shared politeness, crawls that go on in the next run, and the traps that a crawl met.

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

ALTER TABLE gleaner.crawl_job ADD COLUMN goes_on boolean NOT NULL DEFAULT false;
ALTER TABLE gleaner.crawl_job ADD COLUMN traps jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN gleaner.crawl_job.goes_on IS 'The crawl was stopped by time or by the site: the next run of the source goes on with it.';
COMMENT ON COLUMN gleaner.crawl_job.traps IS 'Families of addresses without end that were followed so far and no further: kind, pattern, followed, left_out.';
