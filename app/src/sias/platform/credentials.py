"""Secrets come as files: systemd's LoadCredential on hosts, SIAS_CREDENTIALS_DIR elsewhere."""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def credential(name: str, *, workstation: bool = False, default: str | None = None) -> str:
    """Return the secret `name`, without its last newline.

    On a workstation without a credentials folder a fixed, worthless value is returned, so that the application starts.
    Raises ImproperlyConfigured, naming the file and the folder, when a deployment lacks it.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY") or os.environ.get("SIAS_CREDENTIALS_DIR")
    if not folder:
        if workstation:
            return f"workstation only: {name}" if default is None else default
        raise ImproperlyConfigured(
            f"No folder of credentials (wanted: {name}): set SIAS_CREDENTIALS_DIR or start by systemd's LoadCredential."
        )
    path = Path(folder) / name
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except FileNotFoundError:
        if default is not None:
            return default
        raise ImproperlyConfigured(f"The credential {name} is missing in {folder}.") from None
    except PermissionError:
        raise ImproperlyConfigured(f"The credential {path} cannot be read by this user.") from None
