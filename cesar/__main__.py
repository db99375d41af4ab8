"""`python -m cesar` is the same program as `cesar`."""

from __future__ import annotations

from cesar.cli import main

if __name__ == "__main__":
    main()
