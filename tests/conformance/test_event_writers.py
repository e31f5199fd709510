"""The conformance suite of the event stores: several processes that write at once, or are killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from data.feature_views.events.event import Event, event_key
from data.settings import Settings
from tests.support.services.event_stores import CARD, CARDS, NOW, SHOP, Open, fetch, row, seen, stored

SWIPER = """
import asyncio, json, sys
from data.event_store import OwnEvent, RowQuery, open_events
from data.feature_views.events.event import Event, event_key
from data.feature_views.online.online_windows import Slice
from data.schema.events.event_source import EventSource
from data.schema.scratch_name import scratch_name
from data.settings import Settings

said = json.loads(sys.argv[1])
sources = {name: EventSource.model_validate(each) for name, each in said["sources"].items()}
store = open_events(Settings(**said["settings"]), said["use_case"], sources)
print("open", flush=True)

async def swipe(key):
    own = OwnEvent("swipes", Event(event_key(key), 0, 0, ("c", None), b""), True)
    row = RowQuery(event_key(key), None, ("c",), (own,))
    return len((await store.fetch([Slice("swipes", "card", 3_600_000_000)], [row], 20.0))[0].events[0]) - 1

async def swipes(keys):
    return await asyncio.gather(*map(swipe, keys))

for line in sys.stdin:
    print(json.dumps(asyncio.run(swipes(json.loads(line)))), flush=True)
"""


def child(code: str, store_settings: Settings, use_case: str) -> subprocess.Popen[str]:
    """A process that has the store open."""
    names = ("store", "var_dir", "cassandra_hosts", "cassandra_keyspace", "cassandra_read_timeout_ms")
    said = {
        "settings": {name: str(getattr(store_settings, name)) for name in names},
        "sources": {name: each.model_dump(mode="json", exclude_unset=True) for name, each in CARDS.items()},
        "use_case": use_case,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(said)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_fifty_at_once_from_two_processes(open_: Open, store_settings: Settings, looks: bool):
    """Of 50 swipes at once none is lost; a store that has a lock gives each another number, 0 to 49."""
    use_case = f"fifty_{uuid.uuid4().hex[:8]}"
    store = open_(use_case)
    children = [child(SWIPER, store_settings, use_case) for _ in range(2)]
    try:
        numbers: list[int] = []
        for at, process in enumerate(children):
            assert process.stdin is not None
            process.stdin.write(json.dumps([f"{at}/{each}" for each in range(25)]) + "\n")
            process.stdin.flush()
        for process in children:
            assert process.stdout is not None
            numbers += json.loads(process.stdout.readline())
    finally:
        for process in children:
            process.kill()
            process.communicate()
    assert len(fetch(store, row("?", None, "c"))[0].events[0]) == 50
    if looks:
        assert sorted(numbers) == list(range(50))


APPENDER = """
import json, sys
from data.event_store import open_events
from data.feature_views.events.event import Event, event_key
from data.schema.events.event_source import EventSource
from data.schema.scratch_name import scratch_name
from data.settings import Settings

said = json.loads(sys.argv[1])
sources = {name: EventSource.model_validate(each) for name, each in said["sources"].items()}
store = open_events(Settings(**said["settings"]), said["use_case"], sources)
print("open", flush=True)
now = int(sys.stdin.readline())
for start in range(0, 1_000_000, 50):
    store.append("swipes", [Event(event_key(key), now, now, ("c", "s"), b"") for key in range(start, start + 50)])
    print(start + 50, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_answered(open_: Open, store_settings: Settings):
    """After a kill -9 in the middle of an append all that was answered is there, for each of its entities."""
    use_case = f"killed_{uuid.uuid4().hex[:8]}"
    store = open_(use_case)
    process = child(APPENDER, store_settings, use_case)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{NOW}\n")
    process.stdin.flush()
    answered = [int(process.stdout.readline()) for _ in range(20)][-1]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    answered = max([answered, *map(int, rest.split())])
    found = seen(store, NOW, "c", "s", slices=(CARD, SHOP))
    for events in found:
        assert {event_key(key) for key in range(answered)} <= {event.key for event in events}
    again = [Event(event_key(key), NOW, NOW, ("c", "s"), b"") for key in range(answered + 50)]
    store.append("swipes", again)
    assert seen(store, NOW, "c", "s", slices=(CARD, SHOP)) == [sorted(stored(*again))] * 2
