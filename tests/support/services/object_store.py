"""An S3 server of this machine (moto's), as a process of its own, with one bucket."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pyarrow import fs

from tests.support.environment.ports import free_port
from tests.support.environment.waiting import wait_for

BUCKET = "tables"


class ObjectStore:
    """The bucket behind a server's port; `url` names what is in it, with all that a client needs to reach it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.system = fs.S3FileSystem(
            access_key="key",
            secret_key="secret",
            region="us-east-1",
            endpoint_override=f"127.0.0.1:{port}",
            scheme="http",
            allow_bucket_creation=True,
        )

    def url(self, path: str) -> str:
        """URL of a path in the bucket."""
        options = f"region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{self._port}"
        return f"s3://key:secret@{BUCKET}/{path}?{options}"

    def names(self, folder: str) -> list[str]:
        """Names of the objects in a folder of the bucket, hidden ones too."""
        found = self.system.get_file_info(fs.FileSelector(f"{BUCKET}/{folder}", recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{BUCKET}/{folder}/") for info in found if info.is_file)


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run a server for the duration of the block."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        store = ObjectStore(port)

        def answers() -> bool:
            try:
                store.system.create_dir(BUCKET)
            except OSError:
                return False
            return True

        wait_for(answers, "the S3 server to answer")
        yield store
    finally:
        server.terminate()
        server.wait(30)
