"""A process that runs commands of `rankward` one after the other, so that modules are imported once.

    python -m rankward.paper._worker LOG < commands.json

It reads `[[name, [argument, ...]], ...]`, and writes a line of JSON to its standard output when one begins and when it
ends; what the commands print goes to LOG.
"""

from __future__ import annotations

import json
import os
import sys
import time


def work(log: str) -> None:
    """Run the commands from standard input; stop after an interruption."""
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    commands = json.load(sys.stdin)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    from rankward.cli import main

    for name, arguments in commands:
        print(json.dumps({"begins": name}), file=events)
        print(f"$ rankward {' '.join(arguments)}", flush=True)
        began, code = time.monotonic(), 0
        sys.argv = ["rankward", *arguments]
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        print(json.dumps({"ends": name, "code": code, "seconds": time.monotonic() - began}), file=events)
        if code == 130:
            return


if __name__ == "__main__":
    work(sys.argv[1])
