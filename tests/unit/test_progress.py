from __future__ import annotations

import pytest

from include.gleaner.local.console import describe
from include.gleaner.report.pace import sentence
from include.gleaner.report.progress import Progress


def test_the_share_never_falls_over_a_run() -> None:
    moments = [
        Progress(),
        Progress(crawl_state="running", found=1),
        Progress(crawl_state="running", found=10, fetched=5),
        Progress(crawl_state="complete", found=10, fetched=10),
        Progress(crawl_state="complete", found=10, fetched=10, planned=8),
        Progress(crawl_state="complete", found=10, fetched=10, planned=8, processed=4),
        Progress(crawl_state="complete", found=10, fetched=10, planned=8, processed=8, chunked=40),
        Progress(crawl_state="complete", found=10, fetched=10, planned=8, processed=8, chunked=40, embedded=20),
        Progress(
            crawl_state="complete", found=10, fetched=10, planned=8, processed=8, chunked=40, embedded=40, loaded=4
        ),
        Progress(
            crawl_state="complete", found=10, fetched=10, planned=8, processed=8, chunked=40, embedded=40, loaded=8
        ),
    ]
    shares = [moment.share for moment in moments]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(1.0)


def test_nothing_to_do_is_all_done() -> None:
    progress = Progress(crawl_state="complete", found=10, fetched=10, planned=0)
    assert progress.share == pytest.approx(1.0)
    assert describe(progress) == "10 pages fetched, nothing is new"


def test_it_reads_as_people_say_it() -> None:
    progress = Progress(crawl_state="running", found=200, fetched=50)
    # 150 pages are left at 4.1 a second.
    assert describe(progress, (4.1, 150 / 4.1)) == "crawl: 50/200 pages fetched, 4.1 pages/s, about 37 s left"


@pytest.mark.parametrize(
    ("done", "now", "told"),
    [
        (50, None, "50/200 pages processed, 5.0 pages/s, about 30 s left"),  # 50 in 10 seconds, 150 to do
        (50, 20, "50/200 pages processed, 2.0 pages/s, about 75 s left"),  # 30 are of earlier tries: 20 in 10 seconds
        (50, 0, "50/200 pages processed"),
        (200, 0, "200/200 pages processed"),
        (200, 20, "200/200 pages processed, 2.0 pages/s"),
    ],
)
def test_the_pace_is_of_what_was_done_now(done: int, now: int | None, told: str) -> None:
    assert sentence(done, 200, 10.0, "processed", now=now) == told
