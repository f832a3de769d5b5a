"""The long job: `python -m tests.fuzz TARGET… --executions N`, each target in a libFuzzer of its own.

What was run is remembered: the same command goes on where it was stopped. What is found is kept in `out/TARGET/found`
(an input that fails: exit code 1), `--keep` takes the smallest set that covers as much into `corpus/`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
_LONGEST = 1000  # bytes of an input
_SLICE_SECONDS = 200
_AT = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+)")
_DONE = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


class Job:
    """One target's: its folder holds the inputs that reach something new, those that fail, and the count."""

    def __init__(self, target: str, out: Path) -> None:
        self.target = target
        self.inputs, self.found = out / target / "inputs", out / target / "found"
        memory = "/dev/shm"  # where there is one: each execution may write a file
        self._scratch = tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None)
        self._count = out / target / "executions"
        for folder in (self.inputs, self.found):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def executions(self) -> int:
        """How many there were in all; the first looks at inputs that were known don't count."""
        return int(self._count.read_text()) if self._count.exists() else 0

    def run(self, most: int, seconds: int) -> bool:
        """Run so many more, or for so long; False where an input failed."""
        limits = (f"-runs={most + self._size() + 1}", f"-max_total_time={seconds}", f"-max_len={_LONGEST}")
        bounds = ("-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={self.found}/")
        process = self._start(*limits, *bounds, str(self.inputs), *self._known())
        assert process.stderr is not None
        before, known, done, told = self.executions, 0, 0, list[str]()
        for line in process.stderr:
            told += [line] if not line.startswith("#") else []
            if at := _AT.match(line):
                done = int(at[1])
                known = done if at[2] == "INITED" else known
                self._progress(before + done - known, int(at[3]))
            elif final := _DONE.match(line):
                done = int(final[1])
        self._count.write_text(str(before + max(0, done - known)))
        if process.wait() not in {0, -signal.SIGINT}:
            print("".join(told[-60:]))
            print(f"{self.target}: an input failed; it is in {self.found}", file=sys.stderr)
            return False
        return True

    def keep(self) -> None:
        """Take the smallest set of inputs that covers what all cover, besides those that failed (`failed-…`)."""
        with tempfile.TemporaryDirectory() as chosen:
            process = self._start(
                "-set_cover_merge=1", f"-max_len={_LONGEST}", chosen, str(self.inputs), *self._known()
            )
            process.communicate()
            if process.returncode:
                raise SystemExit(f"{self.target}: libFuzzer can't merge")
            (CORPUS / self.target).mkdir(parents=True, exist_ok=True)
            for former in (CORPUS / self.target).iterdir():
                if not former.name.startswith("failed-"):
                    former.unlink()
            for file in Path(chosen).iterdir():
                shutil.copy(file, CORPUS / self.target / file.name[:12])

    def _known(self) -> list[str]:
        known = CORPUS / self.target
        return [str(known)] if known.is_dir() else []

    def _size(self) -> int:
        """Of the corpus, which is looked at first."""
        return sum(len(os.listdir(folder)) for folder in (self.inputs, *self._known()))

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.fuzz.child", self.target, *arguments]
        environment = {**os.environ, "TMPDIR": self._scratch.name}
        return subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, errors="replace"
        )

    def _progress(self, executions: int, coverage: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{self.target}: {executions:,} executions, {coverage} edges ", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="+", choices=[*TARGETS, "all"])
    parser.add_argument("--executions", type=int, default=0, metavar="N", help="so many of each target in all")
    parser.add_argument("--seconds", type=int, default=0, metavar="S", help="stop after so many, to go on later")
    parser.add_argument("--out", type=Path, default=HERE / "out", metavar="FOLDER", help="where all is remembered")
    parser.add_argument("--keep", action="store_true", help="take what was found into the corpus of the tests")
    given = parser.parse_args()
    end = time.monotonic() + (given.seconds or sys.maxsize)
    with suppress(KeyboardInterrupt):
        for name in TARGETS if "all" in given.target else given.target:
            job = Job(name, given.out)
            while (most := given.executions - job.executions) > 0 and (left := end - time.monotonic()) > 1:
                if not job.run(most, min(int(left), _SLICE_SECONDS)):
                    return 1
            print(f"{name}: {job.executions:,} executions, {len(os.listdir(job.inputs))} inputs")
            if given.keep:
                job.keep()
        return 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
