"""WSGI entry point: `gunicorn -c python:sias.gunicorn_conf sias.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sias.settings")
application = get_wsgi_application()
