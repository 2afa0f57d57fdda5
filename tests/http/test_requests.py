from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_async._http import requests


@given(st.text(min_size=1).filter(lambda text: not any(0xD800 <= ord(letter) < 0xE000 for letter in text)))
def test_a_segment_never_leaves_its_place(value: str) -> None:
    path = requests.join_path("v1", "loops", "samplers", value, "deactivate")
    assert path.count("/") == 5
    assert not set("?#\\ ") & set(path)
    assert path.isascii()


@pytest.mark.parametrize(
    "url",
    [
        "https://api.baseten.co",
        "https://proxy.example/baseten/",
        "http://localhost:8080",
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "http://[::1]:8080",
    ],
)
def test_a_base_url_is_https_or_loopback(url: str) -> None:
    assert requests.check_base_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.baseten.co",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://0.0.0.0:80",
        "ftp://api.baseten.co",
        "api.baseten.co",
        "https://",
        "https://user:secret@api.baseten.co",
        "https://api.baseten.co/?x=1",
        "https://api.baseten.co/#x",
        "https://api.baseten.co:port",
        "https://[::1",
        "https://bäseten.co",
        "https://api.baseten.co/a b",
        "",
    ],
)
def test_other_base_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"base_url|URL"):
        requests.check_base_url(url)


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://model-1.api.baseten.co/deployment/d/sync", True),
        ("https://baseten.co/x", True),
        ("https://model-1.api.baseten.co:8443/x", True),
        ("http://127.0.0.1:8080/models/1", True),
        ("http://127.0.0.1:8081/models/1", False),
        ("http://model-1.api.baseten.co/x", False),
        ("https://notbaseten.co/x", False),
        ("https://api.baseten.co.evil.example/x", False),
        ("https://evil.example/api.baseten.co", False),
        ("https://api.baseten.co@evil.example/x", False),
        ("https://evil.example\\@api.baseten.co/x", False),
        ("https://evil.example#@api.baseten.co", False),
        ("https://evil.example\n.baseten.co", False),
        ("//api.baseten.co/x", False),
        ("https://[::1", False),
        ("", False),
    ],
)
def test_the_key_goes_to_baseten_or_the_own_origin_only(url: str, trusted: bool) -> None:
    assert requests.may_receive_key(url, "http://127.0.0.1:8080") is trusted
