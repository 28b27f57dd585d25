"""The command line behind `make run`, `make up`, `make search` and `make clean`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from pathlib import Path

from include.gleaner.errors import GleanerError
from include.gleaner.local import interrupts
from include.gleaner.local.console import fail, say
from include.gleaner.local.run import SAMPLE_TENANT, RunOptions, run, up
from include.gleaner.local.searching import show_search
from include.gleaner.local.stack import clean


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 the run or the set-up failed, 2 a bad option, 128 + n ended by signal n."""
    parser = argparse.ArgumentParser(prog="python -m include.gleaner.local", description=__doc__)
    parser.add_argument("action", choices=["run", "up", "search", "clean"])
    parser.add_argument("--folder", type=Path, default=Path(".gleaner"), help="where the data lives (.gleaner)")
    parser.add_argument("--url", help="website to ingest; default: the sample website")
    parser.add_argument("--tenant", help="whose knowledge it becomes")
    parser.add_argument("--max-pages", type=int)
    parser.add_argument("--query", help="with search: what is asked for")
    parser.add_argument("--limit", type=int, default=5, help="with search: how many chunks (5)")
    parser.add_argument("--port", type=_port, help="of Airflow's UI and API; default: a free one")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    interrupts.install()
    # The local model's graph is built once per folder, and goes with it.
    os.environ.setdefault("GLEANER_CACHE_DIR", str(folder / "cache"))
    try:
        if options.action == "clean":
            clean(folder)
            say(f"removed {folder.name}/")
            return 0
        if options.action == "search":
            return show_search(folder, options.tenant or SAMPLE_TENANT, options.query or "", options.limit)
        if options.action == "up":
            up(folder, options.port)
            return 0
        return run(
            RunOptions(
                folder=folder,
                url=options.url or None,
                tenant=options.tenant or None,
                max_pages=options.max_pages,
                port=options.port,
            )
        )
    except interrupts.Interrupted as signal:
        say("stopped; nothing is left running, and the next start goes on from here")
        return 128 + signal.number
    except GleanerError as error:
        fail(str(error))
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EADDRINUSE):
            raise
        fail(f"{error.strerror}: {error.filename or folder}; free it, then start again")
        return 1


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text} is no port; it needs a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
