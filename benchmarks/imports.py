"""The time of `import cesar`, in seconds beyond the interpreter's own startup, as JSON.

    scripts/bench imports [--runs 20]

`bare` is the import alone; `used` adds the first use of a public name, which imports the rest. Every run is a fresh
interpreter; the three kinds alternate, so that other load affects all of them equally.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "interpreter": "pass",
    "bare": "import cesar",
    "used": "from cesar import AudioTranscriber, TranscribeOptions, Transcript",
}
TARGET_S = 0.150


def seconds_of(program: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    for program in PROGRAMS.values():  # compiled, and in the file cache
        seconds_of(program)
    taken = [{name: seconds_of(program) for name, program in PROGRAMS.items()} for _ in range(runs)]
    medians = {name: statistics.median(run[name] for run in taken) for name in PROGRAMS}
    beyond = {name: round(medians[name] - medians["interpreter"], 4) for name in ("bare", "used")}
    report = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "runs": runs,
        "interpreter_s": round(medians["interpreter"], 4),
        "beyond_interpreter_s": beyond,
        "target_s": TARGET_S,
        "is_within_target": max(beyond.values()) < TARGET_S,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
