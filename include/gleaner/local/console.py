"""What a local run says: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from include.gleaner.report.progress import Progress as RunProgress

SHOWN_CHARACTERS: Final = 300
PLAIN_SECONDS: Final = 5.0  # between two lines where there is no terminal

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line."""
    console.print(escape(text))


def fail(text: str) -> None:
    """One line about what is wrong, on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]gleaner:[/] {escape(text)}")


@contextmanager
def step(text: str) -> Iterator[None]:
    """A step of the start-up: its name, and how long it took when it ended well."""
    began = time.monotonic()
    if console.is_terminal:
        with console.status(escape(text)):
            yield
    else:
        say(f"… {text}")
        yield
    say(f"✓ {text} ({time.monotonic() - began:.1f} s)")


def table(title: str, rows: list[tuple[str, ...]], columns: tuple[str, ...] = ()) -> None:
    """A table without lines around it."""
    view = Table(title=escape(title), title_justify="left", title_style="bold", box=None, pad_edge=False, expand=False)
    for number in range(len(rows[0])):
        name = columns[number] if columns else ""
        view.add_column(escape(name), overflow="fold", style="cyan" if number == 0 else "")
    view.show_header = bool(columns)
    for row in rows:
        view.add_row(*(escape(cell) for cell in row))
    console.print(view)


class Follower(Protocol):
    """Shows how far a run is."""

    def show(self, progress: RunProgress) -> None:
        """The state now."""


def excerpt(text: str) -> str:
    """The beginning of a text on one line, cut between words."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[:SHOWN_CHARACTERS].rsplit(" ", 1)[0] + " …"


@contextmanager
def follow(url: str) -> Iterator[Follower]:
    """A bar that lives while the run does, or a line every five seconds."""
    if not console.is_terminal:
        yield _Lines()
        return
    with _TwoLines(
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn(escape(url)),
        console=console,
        transient=True,
    ) as bar:
        yield _Bar(bar)


class _TwoLines(Progress):
    """The bar, and below it the state in words, which would not fit beside it."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Called by rich at each refresh."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(textwrap.fill(task.description, max(console.width - 2, 20), initial_indent="  "))


class _Bar:
    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=1.0)
        self._pace = _Pace()

    def show(self, progress: RunProgress) -> None:
        text = describe(progress, self._pace.of(progress))
        self._bar.update(self._task, completed=progress.share, description=text)


class _Lines:
    def __init__(self) -> None:
        self._last = 0.0
        self._text = ""
        self._pace = _Pace()

    def show(self, progress: RunProgress) -> None:
        text = describe(progress, self._pace.of(progress))
        if text != self._text and time.monotonic() - self._last >= PLAIN_SECONDS:
            say(f"  {progress.share:4.0%}  {text}")
            self._last, self._text = time.monotonic(), text


class _Pace:
    """Pages per second, and the seconds left at that pace."""

    def __init__(self) -> None:
        self._began: tuple[str, float, float] | None = None

    def of(self, progress: RunProgress) -> tuple[float, float] | None:
        """(pages/s, seconds left) of the stage that is under way; None while it cannot be told."""
        crawling = progress.planned is None
        stage = "crawl" if crawling else "load"
        total = progress.found if crawling else progress.planned or 0
        done = progress.fetched if crawling else progress.work * total
        now = time.monotonic()
        if self._began is None or self._began[0] != stage:
            self._began = (stage, now, done)
        _, since, before = self._began
        if done <= before or now - since < 0.5:
            return None
        rate = (done - before) / (now - since)
        return rate, (total - done) / rate


def describe(progress: RunProgress, pace: tuple[float, float] | None = None) -> str:
    """The state in words, such as "50/200 pages, 4.1 pages/s, about 40 s left"."""
    if progress.planned is None:
        text = (
            "waiting for the first task"
            if progress.crawl_state == "waiting"
            else f"crawl: {progress.fetched}/{progress.found} pages fetched"
        )
    elif not progress.planned:
        text = f"{progress.fetched} pages fetched, nothing is new"
    else:
        text = (
            f"{progress.found} found, {progress.fetched} fetched, {progress.processed}/{progress.planned} processed, "
            f"{progress.chunked} chunks, {progress.embedded} embedded, {progress.loaded}/{progress.planned} loaded"
        )
    if pace is not None:
        rate, left = pace
        text += f", {rate:.1f} pages/s, about {left:.0f} s left"
    return text
