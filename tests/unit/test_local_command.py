"""`python -m include.gleaner.local`: what it is given wrongly is one line, and removes nothing of anybody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.gleaner.local import interrupts
from include.gleaner.local.__main__ import main
from include.gleaner.local.stack import OWN


@pytest.fixture(autouse=True)
def _no_handlers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(interrupts, "install", lambda: None)
    monkeypatch.setenv("GLEANER_CACHE_DIR", str(tmp_path / "cache"))


def test_only_what_is_gleaner_s_is_cleaned_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "home"
    for name in sorted(OWN - {"lock"}):
        (folder / name).mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work", "ascii")
    before = sorted(folder.rglob("*"))
    assert main(["clean", "--folder", str(folder)]) == 1
    assert "thesis.tex" in "".join(capsys.readouterr().err.split())
    assert sorted(folder.rglob("*")) == before
    (folder / "thesis.tex").rename(tmp_path / "thesis.tex")
    assert main(["clean", "--folder", str(tmp_path / "thesis.tex")]) == 1
    assert (tmp_path / "thesis.tex").exists()
    assert main(["clean", "--folder", str(folder)]) == 0
    assert not folder.exists()
    assert main(["clean", "--folder", str(folder)]) == 0


@pytest.mark.parametrize("port", ["99999", "-1", "0", "x", "\u0663", "9" * 5_000])
def test_a_port_that_is_none_is_a_bad_option(tmp_path: Path, capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["up", "--folder", str(tmp_path / "new"), "--port", port])
    assert ended.value.code == 2
    assert "--port" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
