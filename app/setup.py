"""Collect the static files into the wheel, with hashed names and compressed copies: hosts write nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

COLLECT = """
import sys
from django.conf import settings
from django.core.management import call_command
import django
settings.configure(
    INSTALLED_APPS=["django.contrib.staticfiles"], STATIC_URL="/static/",
    STATICFILES_DIRS=[sys.argv[1] + "/static"], STATIC_ROOT=sys.argv[1] + "/staticfiles",
    STORAGES={"staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}},
)
django.setup()
call_command("collectstatic", interactive=False, verbosity=0)
"""


class BuildWithStatic(build_py):
    """Run collectstatic inside the build folder once the modules are there."""

    def run(self) -> None:
        """Build from a clean folder, then collect."""
        package = Path(self.build_lib) / "sias"
        if not self.editable_mode:
            shutil.rmtree(package, ignore_errors=True)  # a file deleted since the last build must not come back
        super().run()
        if not self.editable_mode:
            subprocess.run([sys.executable, "-c", COLLECT, str(package.resolve())], check=True)


setup(cmdclass={"build_py": BuildWithStatic})
