"""An address of a Ray cluster answers, or is refused in one line that says what to do."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from ray.exceptions import AuthenticationError

from data.distributed.cluster_address import GivenAddress, check_answers, refusal
from data.errors import ConfigError
from tests.support.environment.ports import free_port


@pytest.fixture
def silent() -> Iterator[int]:
    """A port on which somebody listens who never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", "is a dashboard's address"),
        ("garbage", "is no address of a Ray cluster"),
        ("127.0.0.1:many", "is no address of a Ray cluster"),
        ("127.0.0.1:99999", "is no address of a Ray cluster"),
        (":6379:1", "is no address of a Ray cluster"),
    ],
)
def test_what_is_no_address_is_refused(address: str, said: str):
    """What can be no cluster's address is refused by name, without a try to connect."""
    with pytest.raises(ConfigError, match=f"RAY_ADDRESS={address} {said}.*or unset RAY_ADDRESS to use this machine"):
        check_answers(GivenAddress(address))


def test_address_of_an_option_is_named_so():
    """An address is called what the user typed, and so is the way out."""
    given = GivenAddress("garbage", "--address")
    with pytest.raises(ConfigError, match=r"^--address garbage is no .* give `--address local` to use this machine"):
        check_answers(given)
    assert "at --address garbage cannot be used: lost; give `--address local`" in str(refusal(OSError("lost"), given))


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_silent_or_closed_port_is_refused_in_time(form: str, silent: int):
    """Nobody there, or somebody who does not speak Ray's protocol: refused after the time that was given."""
    for port in (silent, free_port()):
        with pytest.raises(ConfigError, match=r"no Ray cluster answers at RAY_ADDRESS=.* within 0.2 s; start one"):
            check_answers(GivenAddress(form.format(port)), answer_s=0.2)


@pytest.mark.parametrize(
    ("exc", "address", "said"),
    [
        (Exception("The current node timed out during startup."), None, "did not start.*close other programs"),
        (ValueError("object store size (2 GB) exceeds /dev/shm size (0.06 GB)."), None, "make /dev/shm larger"),
        (OSError(28, "No space left on device"), None, "free disk space where Ray keeps its files"),
        (PermissionError(13, "Permission denied", "/tmp/ray"), None, "give this user access"),
        (SystemExit(15), None, "did not start.*its logs are in /tmp/ray"),
        (RuntimeError("Version mismatch: The cluster\nwas started with:\n Ray: 2.9"), "a:1", "own versions of Ray"),
        (AuthenticationError("Unauthenticated"), "a:1", "set RAY_AUTH_TOKEN"),
        (ConnectionError("ray client connection timeout"), "ray://a:1", "RAY_ADDRESS=ray://a:1 cannot be used.*unset"),
    ],
)
def test_failed_start_is_told_in_one_line(exc: BaseException, address: str | None, said: str):
    """What Ray raises becomes one line with what to do."""
    text = str(refusal(exc, GivenAddress(address) if address else None))
    assert len(text.splitlines()) == 1
    assert re.search(said, text)
