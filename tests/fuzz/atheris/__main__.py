# SPDX-License-Identifier: MIT
"""Coverage-guided fuzzing of one parser: `pip install -e '.[test,fuzz]'` first.

    python -m tests.fuzz.atheris TARGET [options of libFuzzer, such as -max_total_time=600]

Seeds are written to build/atheris/TARGET, where what is new goes, too. What makes a parser raise is left as crash-*.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(words: list[str]) -> None:
    """Fuzz until the options of libFuzzer say that it is enough."""
    import atheris

    with atheris.instrument_imports(include=["luoser"]):
        from tests.fuzz.atheris.targets import TARGETS

        if len(words) < 2 or words[1] not in TARGETS:
            sys.exit(f"expected one of {', '.join(TARGETS)}")
        target, folder = TARGETS[words[1]], Path("build/atheris") / words[1]
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(target.seeds()):
            (folder / f"seed{number}").write_bytes(seed)
            target.run(seed)  # readers of formats are imported when they are needed
    atheris.Setup([words[0], str(folder), "-timeout=10", "-rss_limit_mb=2048", *words[2:]], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
