"""Take apart what render.yml made: `<folder>/<host>.json` becomes `<folder>/<host>/<name>`."""

import json
import sys
from pathlib import Path

for collected in Path(sys.argv[1]).glob("*.json"):
    host = collected.with_suffix("")
    host.mkdir(exist_ok=True)
    for name, text in json.loads(collected.read_text(encoding="utf-8")).items():
        (host / name).write_text(text, encoding="utf-8")
