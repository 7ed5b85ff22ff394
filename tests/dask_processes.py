"""A Dask scheduler and its workers as processes of their own, for test_cluster.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import defocus_ds

TESTS = Path(__file__).parent
PACKAGE = Path(defocus_ds.__file__).parent
PATIENCE_S = 120.0


class Processes:
    """Everything that was started under a folder; `stop` ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.started: list[subprocess.Popen[bytes]] = []

    def scheduler(self) -> subprocess.Popen[bytes]:
        """Start the scheduler on a free port; wait for its file."""
        process = self._start(
            "scheduler", "--scheduler-file", self.file, "--host", "127.0.0.1", "--port", "0"
        )
        deadline = time.monotonic() + PATIENCE_S
        while not (self.file.exists() and self.file.read_text().endswith("}")):
            assert process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        return process

    def address(self) -> str:
        return str(json.loads(self.file.read_text())["address"])

    def worker(
        self, *, nanny: bool = False, package: Path = PACKAGE.parent
    ) -> subprocess.Popen[bytes]:
        """Start a worker that imports the package from a folder; it joins when it is ready."""
        return self._start(
            "worker",
            *("--scheduler-file", self.file, "--host", "127.0.0.1", "--nthreads", "1"),
            *("--local-directory", self.folder, "--memory-limit", "0"),
            "--nanny" if nanny else "--no-nanny",
            package=package,
        )

    def other_code(self) -> Path:
        """A folder with a copy of the package that differs by one comment."""
        shutil.copytree(PACKAGE, self.folder / "other/defocus_ds")
        with (self.folder / "other/defocus_ds/optics.py").open("a") as file:
            file.write("# changed\n")
        return self.folder / "other"

    def stop(self) -> None:
        for process in reversed(self.started):
            process.terminate()  # a nanny takes its worker with it
        for process in self.started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def _start(
        self, kind: str, *arguments: object, package: Path = PACKAGE.parent
    ) -> subprocess.Popen[bytes]:
        search = [str(package), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        with (self.folder / f"{kind}{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", f"distributed.cli.dask_{kind}"),
                    *("--no-dashboard", *map(str, arguments)),
                ],
                env=os.environ
                | threads
                | {"MKL_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(search)},
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process
