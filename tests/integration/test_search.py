"""`gleaner.search`: what it finds, whom it answers, and how it says no."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from include.gleaner.load.store import KnowledgeStore
from include.gleaner.load.vector_index import ensure_index, index_name
from include.gleaner.models import PageChunks
from include.gleaner.ops.migrate import migrate
from include.gleaner.ops.migrations import migrations
from include.gleaner.ops.rollback import rollback
from include.gleaner.search import Hit, search
from include.gleaner.text import fold
from tests.support.chunks import DIMENSIONS, MODEL, add_page, chunk, page_of, vector_of

TEXTS = [
    "The pump delivers four litres a minute.",
    "Error E4 means that a valve is stuck.",
    "Our office is open from nine to five.",
    "Send the parcel back within sixty days.",
]


def vector(text: str) -> NDArray[np.float32]:
    return np.frombuffer(vector_of(text), "<f4")


def load(conn: psycopg.Connection, tenant: str, texts: list[str], url: str = "https://example.com/a") -> uuid.UUID:
    page = add_page(conn, tenant, url)
    KnowledgeStore(conn, tenant_id=tenant, model=MODEL, dimensions=DIMENSIONS).replace_pages([page_of(page, texts)])
    conn.execute("UPDATE gleaner.tenant SET search_model = %s WHERE tenant_id = %s", (MODEL, tenant))
    return page


def ask(conn: psycopg.Connection, query: str, near: str | None, tenant: str = "acme", limit: int = 10) -> list[Hit]:
    given_vector = None if near is None else vector(near)
    return search(conn, tenant_id=tenant, query=query, vector=given_vector, model=MODEL, limit=limit)


def test_each_half_finds_by_itself_and_both_add_up(conn: psycopg.Connection) -> None:
    page = load(conn, "acme", TEXTS)
    by_words = ask(conn, "what is E4?", None)
    assert [hit.full_text for hit in by_words] == [TEXTS[1], TEXTS[2]]  # «is» is in both, E4 is rarer
    assert by_words[0].similarity is None
    by_meaning = ask(conn, "", TEXTS[0])
    assert len(by_meaning) == 4
    assert by_meaning[0].full_text == TEXTS[0]
    assert by_meaning[0].similarity == pytest.approx(1.0)
    assert by_meaning[0].lexical is None
    both = ask(conn, "parcel", TEXTS[0])
    assert {both[0].full_text, both[1].full_text} == {TEXTS[0], TEXTS[3]}
    assert both[0].score == pytest.approx(max(hit.score for hit in both))
    assert {hit.source_id for hit in both} == {page}
    assert ask(conn, "", None) == []
    assert ask(conn, "nothing-like-it", None) == []


def test_any_word_is_enough_and_the_rarer_one_counts_more(conn: psycopg.Connection) -> None:
    common = [f"The manual has a page about part {number}." for number in range(40)]
    load(conn, "acme", [*common, "A zweckgebundene note about nothing."])
    conn.execute("ANALYZE gleaner.tenant_knowledge")
    assert ask(conn, "the manual page about zweckgebundene", None)[0].full_text.startswith("A zweckgebundene")


def test_what_is_near_is_not_pushed_out_by_all_that_share_common_words(conn: psycopg.Connection) -> None:
    common = [f"The manual says something about part {number}." for number in range(80)]
    load(conn, "acme", [*common, TEXTS[0]])
    assert TEXTS[0] in [hit.full_text for hit in ask(conn, "what the manual says about it", TEXTS[0])]


def test_rare_words_are_first_before_what_is_only_near(conn: psycopg.Connection) -> None:
    load(conn, "acme", [*(f"Part {number} is made of steel." for number in range(80)), "A zweckgebundene ruecklage."])
    assert ask(conn, "zweckgebundene ruecklage", "Part 3 is made of steel.")[0].full_text.startswith("A zweck")


def test_a_rare_word_is_found_among_many_common_ones(conn: psycopg.Connection) -> None:
    """In all chunks of a small tenant, of which hundreds share the common words more often than the one that counts."""
    common = [f"The manual has the page about the part {number}, the manual." for number in range(400)]
    load(conn, "acme", [*common, "Nothing but a zweckgebundene ruecklage, the only one there is in all of this text."])
    assert ask(conn, "the manual page about zweckgebundene", None)[0].full_text.startswith("Nothing but a zweck")


def test_a_question_without_a_direction_is_answered_by_words(conn: psycopg.Connection) -> None:
    load(conn, "acme", TEXTS)
    nowhere = np.zeros(DIMENSIONS, np.float32)
    hits = search(conn, tenant_id="acme", query="valve", vector=nowhere, model=MODEL, limit=4)
    assert hits[0].full_text == TEXTS[1]
    assert all(0 <= hit.score <= 1 for hit in hits)


def test_a_chunk_without_a_direction_is_not_the_nearest(conn: psycopg.Connection) -> None:
    load(conn, "acme", TEXTS)
    zeros = "[" + ",".join(["0"] * DIMENSIONS) + "]"
    conn.execute("UPDATE gleaner.tenant_knowledge SET embedding = %s::vector WHERE chunk_index = 3", (zeros,))
    for query in ("valve", ""):
        hits = ask(conn, query, TEXTS[0])
        assert (hits[0].full_text, hits[-1].full_text) == (TEXTS[0], TEXTS[3])
        assert all(0 <= hit.score <= 1 for hit in hits)  # which a score that is no number is not
        assert hits[0].score > hits[-1].score == 0


def test_far_hits_keep_their_order(conn: psycopg.Connection) -> None:
    """From the fiftieth on all have a score of nothing; the nearer is first still."""
    load(conn, "acme", [f"Part {number} is made of steel." for number in range(90)])
    hits = ask(conn, "", TEXTS[0], limit=80)
    assert len(hits) == 80
    assert hits[48].score > hits[49].score == hits[-1].score == 0
    assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)


def test_of_far_hits_the_farthest_make_room_for_what_words_find(conn: psycopg.Connection) -> None:
    load(conn, "acme", [f"Part {number} is made of steel." for number in range(90)])
    by_nearness = [hit.full_text for hit in ask(conn, "", TEXTS[0], limit=90)]
    farthest = by_nearness[-5:]
    hits = ask(conn, " ".join(text.split()[1] for text in farthest), TEXTS[0], limit=60)
    assert {hit.full_text for hit in hits if hit.similarity is None} == set(farthest)
    assert [hit.full_text for hit in hits if hit.similarity is not None] == by_nearness[:55]


def test_pgvector_may_be_in_another_schema(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA extensions")
        conn.execute("CREATE EXTENSION vector WITH SCHEMA extensions")
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET search_path = public, extensions".encode())
    migrate(empty_dsn)
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        load(conn, "acme", TEXTS)
    for version in (len(migrations()), len(migrations()) - 1):
        rollback(empty_dsn, version)
        with psycopg.connect(empty_dsn, autocommit=True) as conn:
            assert ask(conn, "parcel", TEXTS[3])[0].full_text == TEXTS[3]


def test_persian_is_found_however_it_is_typed(conn: psycopg.Connection) -> None:
    page = add_page(conn, "acme", "https://example.com/fa")
    text = "هزینهٔ ارسال کتاب‌ها ۳۴ یورو است."
    stored = chunk(0, text)
    stored = replace(stored, language="fa", search_text=fold(text, "fa"))
    KnowledgeStore(conn, tenant_id="acme", model=MODEL, dimensions=DIMENSIONS).replace_pages(
        [PageChunks(page_id=page, generation=1, fingerprint="a", chunks=(stored,), vectors=(vector_of(text),))]
    )
    for query in ("كتاب", "کتاب ها", "34", "٣٤ يورو", "هزینه"):
        assert [hit.full_text for hit in ask(conn, query, None)] == [text], query


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)
    | st.text("aÄßİıيىكةە٠۹०کتاب\u200c\u200dʼéﬁ①", max_size=30),
    language=st.sampled_from(["fa", "en", "ar"]),
)
def test_folding_in_the_database_is_that_of_the_load_stage(conn: psycopg.Connection, text: str, language: str) -> None:
    """For what the load stage folded already, which is what the Python side sends; and for plain letters."""
    once = fold(text, language)
    (twice,) = conn.execute("SELECT gleaner.fold(%s, %s)", (once, language)).fetchone() or ("",)
    (raw,) = conn.execute("SELECT gleaner.fold(%s, %s)", (text, language)).fetchone() or ("",)
    if all(character.isascii() or "\u0600" <= character <= "\u06ff" for character in text):
        assert raw == once
    assert fold(twice, language) == once


@pytest.mark.parametrize(
    "query", ["'", "\\", "a\\'b", "& | ! <-> :*", "x'); DROP TABLE gleaner.tenant; --", "%s %(x)s", "{}"]
)
def test_no_query_is_anything_but_words(conn: psycopg.Connection, query: str) -> None:
    load(conn, "acme", [*TEXTS, f"odd {query}"])
    for text in (query, f"odd {query}", query * 50):
        ask(conn, text, TEXTS[0])
    assert ask(conn, f"odd {query}", None)[0].full_text == f"odd {query}"
    assert conn.execute("SELECT count(*) FROM gleaner.tenant").fetchone() == (1,)


def test_tenants_and_models_never_mix(conn: psycopg.Connection) -> None:
    load(conn, "acme", TEXTS)
    load(conn, "other", ["The secret of the other tenant about the pump."])
    for query, near in (("secret pump", TEXTS[0]), ("secret", None), ("", TEXTS[0])):
        assert all("secret" not in hit.full_text for hit in ask(conn, query, near, limit=1_000))
    page = add_page(conn, "acme", "https://example.com/a")
    KnowledgeStore(conn, tenant_id="acme", model="newer", dimensions=4).replace_pages(
        [
            PageChunks(
                page_id=page, generation=1, fingerprint="b", chunks=(chunk(0, "Half done."),),
                vectors=(np.array([1, 0, 0, 0], "<f4").tobytes(),),
            )
        ]
    )  # fmt: skip
    conn.execute("ANALYZE gleaner.tenant_knowledge")
    seen = search(conn, tenant_id="acme", query="half", vector=vector(TEXTS[0]), model=None, limit=100)
    assert {hit.full_text for hit in seen} == set(TEXTS)
    mine = search(conn, tenant_id="acme", query="half", vector=np.array([1, 0, 0, 0], np.float32), model="newer")
    assert [hit.full_text for hit in mine] == ["Half done."]
    assert search(conn, tenant_id="nobody", query="half", vector=None, model=None) == []


def test_a_gist_with_a_vector_of_its_own_is_near_too(conn: psycopg.Connection) -> None:
    page = load(conn, "acme", TEXTS)
    gist = np.frombuffer(vector_of("the gist"), "<f4")
    conn.execute(
        "UPDATE gleaner.tenant_knowledge SET tldr_hash = 'x', tldr_embedding = %s::vector"
        " WHERE source_id = %s AND chunk_index = 2",
        ("[" + ",".join(map(str, gist.tolist())) + "]", page),
    )
    assert ask(conn, "", "the gist")[0].full_text == TEXTS[2]


@pytest.mark.parametrize("limit", [0, -1, 1_001, 2**31, 2**80])
def test_a_limit_that_is_none_is_refused(conn: psycopg.Connection, limit: int) -> None:
    load(conn, "acme", TEXTS)
    with pytest.raises(psycopg.DataError, match=r"k needs to be from 1 to 1000|integer out of range"):
        ask(conn, "pump", None, limit=limit)


def test_a_vector_of_another_length_is_refused(conn: psycopg.Connection) -> None:
    load(conn, "acme", TEXTS)
    with pytest.raises(psycopg.DataError, match="dimensions"):
        search(conn, tenant_id="acme", query="", vector=np.ones(3, np.float32), model=MODEL)


@pytest.mark.parametrize("kind", ["vector", "halfvec"])
def test_a_large_tenant_is_searched_by_the_index_and_finds_what_comparing_finds(
    conn: psycopg.Connection, kind: str
) -> None:
    """12,000 of 15,000 chunks: above the number that is compared one by one."""
    numbers = np.random.default_rng(3)
    vectors = {}
    for tenant, rows in (("large", 12_000), ("small", 3_000)):
        centres = numbers.normal(size=(40, DIMENSIONS))  # each tenant speaks of other things
        vectors[tenant] = centres[numbers.integers(40, size=rows)] + numbers.normal(scale=0.3, size=(rows, DIMENSIONS))
    for tenant, rows in vectors.items():
        page = load(conn, tenant, ["first"])
        with (
            conn.cursor() as cursor,
            cursor.copy(
                "COPY gleaner.tenant_knowledge (tenant_id, source_id, chunk_type, chunk_index, embedding_model,"
                " section_title, full_text, language, token_count, word_count, text_hash, content_hash, embedding,"
                " search_vector) FROM STDIN"
            ) as copy,
        ):
            for number, row in enumerate(rows, 1):
                copy.write_row((tenant, page, "website", number, MODEL, "", f"{tenant} {number}", "en", 1, 1, b"x",
                                b"y", str(row.tolist()), "word"))  # fmt: skip
        conn.execute(
            "UPDATE gleaner.knowledge_generation SET chunk_count = %s WHERE tenant_id = %s", (len(rows), tenant)
        )
    conn.execute("VACUUM ANALYZE gleaner.tenant_knowledge")
    kind_of = "halfvec" if kind == "halfvec" else "vector"
    assert ensure_index(conn, model=MODEL, dimensions=DIMENSIONS, kind=kind_of) == "built"
    name = index_name(MODEL, DIMENSIONS, kind_of)

    def scans() -> int:
        conn.execute("SELECT pg_stat_force_next_flush()")
        row = conn.execute("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s", (name,)).fetchone()
        return int(row[0]) if row else -1

    chance = random.Random(1)
    # The last: a question whose nearest chunks are all of another tenant. What an index misses is chance.
    for tenant, asks_about, by_index, least in (
        ("large", "large", True, 190), ("small", "small", False, 200), ("large", "small", True, 180),
    ):  # fmt: skip
        about = vectors[asks_about] / np.linalg.norm(vectors[asks_about], axis=1, keepdims=True)
        unit = vectors[tenant] / np.linalg.norm(vectors[tenant], axis=1, keepdims=True)
        before, found = scans(), 0
        for _ in range(20):
            query = (about[chance.randrange(len(about))] + numbers.normal(scale=0.05, size=DIMENSIONS)).astype(
                np.float32
            )
            best = {f"{tenant} {at + 1}" for at in np.argsort(-(unit @ query))[:10]}
            hits = search(conn, tenant_id=tenant, query="", vector=query, model=MODEL, limit=10)
            assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)
            found += len(best & {hit.full_text for hit in hits})
        assert (scans() - before >= 20) is by_index
        assert found >= least

    # A share of less than 2 per cent of a table is compared one by one, because an index would pass by too many others.
    query = vectors["large"][0].astype(np.float32)
    for rows_of_all, by_index in ((700_000, False), (550_000, True)):
        before = scans()
        with conn.transaction(force_rollback=True):
            conn.execute(
                "UPDATE pg_class SET reltuples = %s WHERE oid = 'gleaner.tenant_knowledge'::regclass", (rows_of_all,)
            )
            hits = search(conn, tenant_id="large", query="", vector=query, model=MODEL, limit=1)
        assert hits[0].full_text == "large 1"
        assert (scans() > before) is by_index
