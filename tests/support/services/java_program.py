"""Real Java servers for tests, without Docker: a program's jars from Maven Central, and the Java at hand."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


class JavaProgram(NamedTuple):
    """A server that Maven Central has.

    `pom` names its dependencies; `java` holds the major versions of Java that run it, which `needs` says in words.
    """

    name: str
    version: str
    pom: Path
    java: Container[int]
    needs: str

    def fetch_jars(self) -> Path:
        """Return the folder with its jars, fetched with Maven when they are not there yet."""
        default = Path.home() / ".cache" / "rayscore" / f"{self.name.lower()}-{self.version}"
        folder = Path(os.environ.get(f"{self.name.upper()}_TEST_CACHE", default)).absolute()
        jars = folder / "lib"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may start at once
            if not jars.is_dir():
                self._fetch(folder / "lib.part", jars)
        return jars

    def missing(self) -> str | None:
        """What keeps it from being started here, and how to have it; None where all is there."""
        if shutil.which("mvn") is None or shutil.which("java") is None:
            return self._advice("Java or Maven is missing")
        found = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
        version = re.search(r'version "(\d+)', found)
        if version is None or int(version[1]) not in self.java:
            found = version[1] if version else "unknown"
            return self._advice(f"java is version {found}, {self.name} needs {self.needs}")
        return None

    def _fetch(self, part: Path, jars: Path) -> None:
        shutil.rmtree(part, ignore_errors=True)
        options = [f"-DoutputDirectory={part}", "-DincludeScope=runtime"]
        command = ["mvn", "-q", "-B", "-f", str(self.pom), _COPY, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stdout + done.stderr).strip()[:500]
            raise RuntimeError(self._advice(f"Maven could not fetch {self.name} {self.version}: {reason}"))
        part.rename(jars)

    def _advice(self, reason: str) -> str:
        remedy = "have them with `apt-get install openjdk-17-jre-headless maven`"
        return f"REAL {self.name.upper()} TESTS NOT RUN: {reason}; {remedy}"
