-- What was forgotten stays away.

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

ALTER TABLE gleaner.forgotten ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON gleaner.forgotten FOR SELECT TO gleaner_reader
    USING (tenant_id = (SELECT gleaner.readable_tenant()));
CREATE POLICY every_tenant ON gleaner.forgotten TO gleaner_writer USING (true) WITH CHECK (true);
GRANT SELECT ON gleaner.forgotten TO gleaner_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON gleaner.forgotten TO gleaner_writer;
