from __future__ import annotations

from typing import Any

import pytest

from include.gleaner.config import ChunkPolicy, EmbedPolicy, IngestRequest, fingerprint, local_hosts
from include.gleaner.errors import InvalidParamError, UnknownParamError

GOOD = {"tenant": "acme", "url": "https://example.com/docs/"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tenant", "Acme"), ("tenant", ""), ("tenant", "a" * 64), ("tenant", "a\n"), ("tenant", "-a"), ("tenant", 5),
        ("tenant", None), ("url", "example.com"), ("url", "ftp://example.com/"), ("url", "https://"), ("url", ""),
        ("url", "https://user:hunter2@example.com/"), ("url", "https://exa mple.com/"), ("url", "https://x:99999/"),
        ("url", "https://example.com/" + "a" * 2_000), ("max_pages", 0), ("max_pages", "10"), ("max_pages", True),
        ("max_pages", 1.5), ("delay_seconds", "fast"), ("delay_seconds", float("nan")), ("include_patterns", "a"),
        ("include_patterns", ["("]), ("exclude_patterns", [1]), ("include_patterns", ["a"] * 51),
        ("chunk_overlap", 26), ("batch_size", 2_501), ("chunk_encoding", "o200k"), ("chunk_encoding", None),
        ("embed_tldr", "yes"), ("embed_tldr", 1), ("include_patterns", ["a{99999999999}"]), ("exclude_patterns", False),
        ("exclude_patterns", ["(?a)(?u)x"]), ("url", "https://a.b/\0"),
        ("url", "https://a.b/\ud800"), ("exclude_patterns", ["\0"]), ("include_patterns", ["\udfff"]),
    ],
)  # fmt: skip
def test_bad_values_are_refused_by_name_and_without_secrets(name: str, value: Any) -> None:
    with pytest.raises(InvalidParamError) as caught:
        IngestRequest.from_params({**GOOD, name: value}, {})
    assert caught.value.name == name
    assert "hunter2" not in str(caught.value)


def test_an_unknown_key_is_refused_because_it_is_a_typing_error() -> None:
    with pytest.raises(UnknownParamError, match=r"max_page'.*max_pages"):
        IngestRequest.from_params({**GOOD, "max_page": 5}, {})


def test_local_hosts_come_from_the_environment_only() -> None:
    assert IngestRequest.from_params(GOOD, {}).crawl.local_hosts == ()
    request = IngestRequest.from_params(GOOD, {"GLEANER_LOCAL_HOSTS": " 127.0.0.1:80, LocalHost:81,,"})
    assert request.crawl.local_hosts == ("127.0.0.1:80", "localhost:81")
    assert local_hosts({}) == ()
    with pytest.raises(UnknownParamError):
        IngestRequest.from_params({**GOOD, "local_hosts": ["127.0.0.1:80"]}, {})


def test_the_fingerprint_tells_policies_apart() -> None:
    base = fingerprint(ChunkPolicy(), EmbedPolicy())
    assert base == fingerprint(ChunkPolicy(), EmbedPolicy(concurrency=9, base_url="https://example.com/v1"))
    others = {
        fingerprint(ChunkPolicy(max_tokens=400), EmbedPolicy()),
        fingerprint(ChunkPolicy(overlap_percent=10), EmbedPolicy()),
        fingerprint(ChunkPolicy(encoding="o200k_base"), EmbedPolicy()),
        fingerprint(ChunkPolicy(embed_tldr=True), EmbedPolicy()),
        fingerprint(ChunkPolicy(), EmbedPolicy(model="text-embedding-3-small", dimensions=1_536)),
        fingerprint(ChunkPolicy(), EmbedPolicy(dimensions=256)),
    }
    assert len(others | {base}) == 7
