from __future__ import annotations

import uuid

import pytest
from structlog.testing import capture_logs

from include.gleaner.local.console import describe
from include.gleaner.models import Batch
from include.gleaner.report.pace import BatchPace, sentence
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


def told_at(*moments: float) -> list[str]:
    """The lines of a batch of ten pages, one of which is done at each of the moments."""
    batch = Batch(index=1, of=1, first_page=uuid.UUID(int=0), last_page=uuid.UUID(int=1), pages=10)
    with capture_logs() as lines:
        pace = BatchPace(batch, "process")
        for number, seconds in enumerate(moments, start=1):
            pace.tell(done=number, now=number, seconds=seconds, failed=0)
        pace.tell_last()
    return [f"{line['done']} {line['failed']}" for line in lines]


def test_a_batch_tells_of_itself_once_a_second_and_at_its_end() -> None:
    assert told_at(0.1, 0.2, 0.9, 1.15, 1.2, 2.0, 2.2, 2.3) == ["1 0", "4 0", "7 0", "8 0"]


def test_nothing_is_told_twice() -> None:
    assert told_at(0.1, 1.2) == ["1 0", "2 0"]
    assert told_at() == []
