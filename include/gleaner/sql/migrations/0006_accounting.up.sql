-- What vectors cost, what a tenant may spend in a month, estimates without asking, and the change from one model to another.

ALTER TABLE gleaner.tenant ADD COLUMN previous_model text;
ALTER TABLE gleaner.tenant ADD COLUMN monthly_token_quota bigint CHECK (monthly_token_quota >= 0);
COMMENT ON COLUMN gleaner.tenant.previous_model IS 'The model that search_model replaced, until its last row is removed.';
COMMENT ON COLUMN gleaner.tenant.monthly_token_quota IS 'Tokens that may be embedded in a calendar month (UTC), over all models; null: no limit.';

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

ALTER TABLE gleaner.batch_report DROP CONSTRAINT batch_report_stage_check;
ALTER TABLE gleaner.batch_report ADD CONSTRAINT batch_report_stage_check CHECK (stage IN ('process', 'load', 'estimate', 'renew'));
ALTER TABLE gleaner.batch_report ADD COLUMN withheld integer NOT NULL DEFAULT 0;
ALTER TABLE gleaner.batch_report ADD COLUMN paused integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN gleaner.batch_report.withheld IS 'Texts whose vector was not asked for, because the quota of the month is spent.';
COMMENT ON COLUMN gleaner.batch_report.paused IS 'Texts whose vector was not asked for, because the endpoint failed again and again.';
