#!/usr/bin/env python3
"""Start AVATAR from a checkout: make sure set-up is complete, then serve. Options: --host --port --config."""

import sys

from scripts.setup import SetupFailed, ensure, enter_venv

if __name__ == "__main__":
    try:
        ensure()
    except SetupFailed as failure:
        sys.exit(f"Set-up stopped: {failure}")
    enter_venv()
    from avatar.cli import main

    sys.argv[1:1] = ["serve"]
    main()
