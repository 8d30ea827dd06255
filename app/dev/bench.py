"""`make -C app bench`: time and recall of the search at several sizes, on throw-away servers of this machine."""

import os
import subprocess
import sys
from pathlib import Path

APP = Path(__file__).parents[1]
sys.path.insert(0, str(APP))

from dev.serve import manager, prepare  # noqa: E402 - the folder of the application is no package
from tests.cluster import Cluster  # noqa: E402

SIZES = os.environ.get("SIZES", "100000 1023447 5000000").split()
DEPARTMENT = 1_023_447
"""The objective's size; larger populations are shown beside it and not judged."""


def main() -> None:
    """Load each size and print its table; exit code 1 when the objective is missed."""
    missed = False
    for size in SIZES:
        cluster = Cluster()
        # What a database host has: the persons' indexes in memory.
        cluster.options = "-c fsync=off -c full_page_writes=off -c shared_buffers=2GB -c max_wal_size=4GB"
        manage = manager(cluster)
        try:
            prepare(cluster, manage)
            print(f"\n{size} personnes", flush=True)
            manage("load_population", "--persons", size, stdout=subprocess.DEVNULL)
            manage("bench_search", *(["--check"] if int(size) <= DEPARTMENT else []), user="sias_app")
        except subprocess.CalledProcessError as failed:
            missed = True
            print(f"code {failed.returncode}", flush=True)
        finally:
            cluster.remove()
    sys.exit(missed)


if __name__ == "__main__":
    main()
