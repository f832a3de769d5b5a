"""One target under libFuzzer, in a process of its own: `python -m tests.fuzz.child TARGET LIBFUZZER-ARGUMENT…`."""

from __future__ import annotations

import sys

import atheris


def main() -> None:
    """Never comes back: libFuzzer ends the process."""
    with atheris.instrument_imports(include=["codex", "codex_ingestd"]):
        from tests.fuzz.targets import TARGETS

    name, *arguments = sys.argv[1:]
    from tests.fuzz.mutation import of_lines

    mutator = (
        {"custom_mutator": of_lines(lambda data, most: atheris.Mutate(data, most))}
        if name in {"native", "codex", "claude", "recogniser"}
        else {}
    )
    again = f"{sys.executable} -m tests.fuzz.child {name}"  # by a shell: how a merge starts itself
    atheris.Setup([again, *arguments], TARGETS[name], **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
