"""Migrations are additive, so that workers of the version before go on; and they never hold up a live table."""

from __future__ import annotations

import re

import pytest

from include.gleaner.ops.migrations import Migration, migrations, steps

# Before this rule: a check was widened, and small tables were still everybody's.
BEFORE_THE_RULE = 9

# What a statement must not say, and what to do instead. In the order in which they are tried.
FORBIDDEN = (
    (r"^DROP (?!INDEX CONCURRENTLY IF EXISTS)", "nothing is dropped while code that knows it may run"),
    (r"\bDROP (COLUMN|CONSTRAINT|DEFAULT|NOT NULL|EXPRESSION|IDENTITY)\b", "nothing is taken from a table"),
    (r"\bRENAME\b", "nothing gets another name"),
    (r"\bALTER (COLUMN )?\w+ (SET DATA )?TYPE\b", "a column keeps its type"),
    (r"\bALTER (COLUMN )?\w+ SET NOT NULL\b", "a column that was optional stays so"),
    (r"^(TRUNCATE|LOCK|VACUUM|CLUSTER|REINDEX)\b", "it holds up everybody"),
    (r"^(UPDATE|DELETE|MERGE)\b", "rows are changed in batches, by code that can be killed"),
    (r"\bSET (UNLOGGED|LOGGED|TABLESPACE|ACCESS METHOD)\b", "it writes the table anew"),
    (r"^REVOKE .* FROM (?!PUBLIC)", "nobody loses a right that running code needs"),
)
# What is forbidden only where the table is not new in the same file.
FORBIDDEN_ON_OLD_TABLES = (
    (r"^CREATE (UNIQUE )?INDEX (?!CONCURRENTLY)", "CREATE INDEX CONCURRENTLY, in a migration made of steps"),
    (r"\bADD (COLUMN )?(IF NOT EXISTS )?\w+ (?!.*\bDEFAULT\b)[^,]*\bNOT NULL\b", "NOT NULL needs a DEFAULT"),
    (r"\bADD (COLUMN )?.*\b(CLOCK_TIMESTAMP|RANDOM|GEN_RANDOM_UUID|NEXTVAL|TIMEOFDAY)\b", "it writes the table anew"),
    (
        r"\bADD (COLUMN )?.*\b(GENERATED|SERIAL|BIGSERIAL|PRIMARY KEY|UNIQUE)\b(?! USING INDEX)",
        "it writes or reads all",
    ),
    (r"\bADD (CONSTRAINT \w+ )?(CHECK|FOREIGN KEY|EXCLUDE)\b(?!.*\bNOT VALID$)", "NOT VALID first, VALIDATE in a step"),
)
IN_STEPS = (
    r"^CREATE (UNIQUE )?INDEX CONCURRENTLY (?!IF NOT EXISTS)\w+ ON ",
    r"^DROP INDEX CONCURRENTLY IF EXISTS GLEANER\.\w+$",
    r"^ALTER TABLE GLEANER\.\w+ VALIDATE CONSTRAINT \w+$",
)
BODY = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)


def statements(text: str) -> list[str]:
    """Upper case, one space between words, without comments, literals and the bodies of functions; not of DO."""
    text = re.sub(r"--[^\n]*", "", text)
    text = BODY.sub(lambda match: match[0] if re.search(r"\bDO\s*$", text[: match.start()]) else "''", text)
    text = re.sub(r"'(?:[^']|'')*'", "''", text)
    parts = (" ".join(part.split()).upper() for part in re.split(r";|\$\w*\$|\bBEGIN\b|\bTHEN\b|\bLOOP\b", text))
    return [part for part in parts if part]


def problems(text: str) -> list[str]:
    """What is wrong with the way up."""
    if parts := steps(text):
        all_steps = [(part.name, statements(part.sql)) for part in parts]
        return [
            f"step {name}: only indexes and validations are steps, one statement each"
            for name, found in all_steps
            if len(found) != 1 or not any(re.search(pattern, found[0]) for pattern in IN_STEPS)
        ]
    found = statements(text)
    new = set(re.findall(r"CREATE (?:UNLOGGED )?TABLE (GLEANER\.\w+)", "\n".join(found)))
    told = []
    for statement in found:
        on = re.search(r"\b(?:TABLE|ON)(?: IF EXISTS)?(?: ONLY)? (GLEANER\.\w+)", statement)
        rules = FORBIDDEN if on and on[1] in new else FORBIDDEN + FORBIDDEN_ON_OLD_TABLES
        if "CONCURRENTLY" in statement:
            told.append(f"{statement[:60]}: it needs a migration made of steps")
        told += [f"{statement[:60]}: {reason}" for pattern, reason in rules if re.search(pattern, statement)]
    return told


@pytest.mark.parametrize("migration", migrations(), ids=lambda migration: migration.label)
def test_a_migration_is_additive(migration: Migration) -> None:
    if migration.version > BEFORE_THE_RULE:
        assert problems(migration.up) == []


def test_versions_have_no_gap_and_no_twin() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


@pytest.mark.parametrize("migration", migrations(), ids=lambda migration: migration.label)
def test_a_way_back_can_be_measured(migration: Migration) -> None:
    """TRUNCATE is not in the counts that a rollback looks at."""
    assert "TRUNCATE" not in migration.down.upper()
    assert migration.down.strip()
    assert bool(steps(migration.up)) == bool(steps(migration.down))


@pytest.mark.parametrize(
    "bad",
    [
        "DROP TABLE gleaner.tenant",
        "ALTER TABLE gleaner.tenant DROP COLUMN created_at",
        "ALTER TABLE gleaner.tenant ADD COLUMN x text, DROP CONSTRAINT y",
        "ALTER TABLE gleaner.tenant RENAME COLUMN created_at TO made_at",
        "ALTER TABLE gleaner.website_page ALTER COLUMN depth TYPE bigint",
        "ALTER TABLE gleaner.website_page ALTER etag SET NOT NULL",
        "ALTER TABLE gleaner.website_page ADD COLUMN x text NOT NULL",
        "ALTER TABLE gleaner.website_page ADD x text NOT NULL, ADD y text",
        "ALTER TABLE gleaner.website_page ADD COLUMN x uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE gleaner.website_page ADD COLUMN x bigint GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE gleaner.website_page ADD CONSTRAINT x CHECK (depth > 0)",
        "ALTER TABLE gleaner.website_page ADD CONSTRAINT x UNIQUE (url)",
        "ALTER TABLE gleaner.website_page ADD CONSTRAINT x FOREIGN KEY (tenant_id) REFERENCES gleaner.tenant",
        "CREATE INDEX x ON gleaner.website_page (url)",
        "CREATE INDEX CONCURRENTLY x ON gleaner.website_page (url)",
        "CREATE TABLE gleaner.a (); CREATE INDEX x ON gleaner.website_page (url)",
        "UPDATE gleaner.tenant SET search_model = 'x'",
        "DELETE FROM gleaner.tenant",
        "TRUNCATE gleaner.dead_letter",
        "LOCK TABLE gleaner.tenant",
        "DROP FUNCTION gleaner.fold",
        "DO $$ BEGIN DROP TABLE gleaner.tenant; END $$",
        "DO $x$ BEGIN IF true THEN DELETE FROM gleaner.tenant; END IF; END $x$",
        "REVOKE SELECT ON gleaner.tenant FROM gleaner_reader",
        "-- step a --\nCREATE INDEX x ON gleaner.website_page (url)",
        "-- step a --\nCREATE INDEX CONCURRENTLY IF NOT EXISTS x ON gleaner.website_page (url)",
        "-- step a --\nALTER TABLE gleaner.tenant ADD COLUMN x text",
        "-- step a --\nDROP INDEX CONCURRENTLY IF EXISTS gleaner.x; SELECT 1",
    ],
)
def test_what_is_not_additive_is_refused(bad: str) -> None:
    assert problems(bad)


@pytest.mark.parametrize(
    "good",
    [
        "CREATE TABLE gleaner.a (x text NOT NULL, y uuid DEFAULT gen_random_uuid(), PRIMARY KEY (x));"
        "CREATE INDEX a_y ON gleaner.a (y); ALTER TABLE gleaner.a ADD CONSTRAINT b CHECK (x <> 'DROP TABLE')",
        "ALTER TABLE gleaner.website_page ADD COLUMN x text;"
        "COMMENT ON COLUMN gleaner.website_page.x IS 'NOT NULL; DROP'",
        "ALTER TABLE gleaner.website_page ADD COLUMN x boolean NOT NULL DEFAULT false,"
        " ADD COLUMN y integer NOT NULL DEFAULT 0",
        "ALTER TABLE gleaner.website_page ADD CONSTRAINT x CHECK (depth > 0) NOT VALID",
        "CREATE OR REPLACE FUNCTION gleaner.f() RETURNS void LANGUAGE sql AS $$ DELETE FROM gleaner.a $$",
        "ALTER TABLE gleaner.tenant ENABLE ROW LEVEL SECURITY; GRANT SELECT ON gleaner.tenant TO gleaner_reader",
        "REVOKE ALL ON FUNCTION gleaner.f FROM PUBLIC",
        "-- What it is for.\n-- step a --\nCREATE UNIQUE INDEX CONCURRENTLY x ON gleaner.website_page (url)\n"
        "-- step b --\nALTER TABLE gleaner.website_page VALIDATE CONSTRAINT y",
    ],
)
def test_what_is_additive_is_not(good: str) -> None:
    assert problems(good) == []
