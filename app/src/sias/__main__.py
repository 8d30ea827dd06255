"""`sias-manage`, also `python -m sias`: Django's management commands with the settings of SIAS."""

import os
import sys


def main() -> None:
    """Run the command given on the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sias.settings")
    os.environ.setdefault("SIAS_STATEMENT_TIMEOUT_MS", "0")  # building an index may take its time
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - settings are named first

    execute_from_command_line(["sias-manage", *sys.argv[1:]])


if __name__ == "__main__":
    main()
