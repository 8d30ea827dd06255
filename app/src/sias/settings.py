"""Settings, all from the environment: one code for the lab, training and production.

The variables are listed in README.md. Secrets are files (systemd's LoadCredential), never variables.
"""

import os
import socket
from pathlib import Path

from sias import __version__
from sias.platform.credentials import credential

BASE = Path(__file__).resolve().parent
ENVIRONMENT = os.environ.get("SIAS_ENVIRONMENT", "dev")
# A workstation: plain http, no mount to insist on. Everything else is a deployment.
WORKSTATION = ENVIRONMENT in {"dev", "test"}

# Written into the release when it is built: what answers says what it is, however it came to run.
_release = BASE / "release.txt"
SIAS_VERSION = _release.read_text(encoding="utf-8").strip() if _release.exists() else __version__
SIAS_ROOM = os.environ.get("SIAS_ROOM", "-")
SIAS_HOST = os.environ.get("SIAS_HOST", socket.gethostname())

DEBUG = False
SECRET_KEY = credential("secret_key", workstation=WORKSTATION)
IDENTIFIER_KEY = credential("identifier_key", workstation=WORKSTATION)
ALLOWED_HOSTS = os.environ.get("SIAS_ALLOWED_HOSTS", "localhost,127.0.0.1" if WORKSTATION else "").split(",")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "sias.platform",
    "sias.journal",
    "sias.accounts",
    "sias.history",
    "sias.socle",
    "sias.habilitations",
    "sias.repertoire",
    "sias.crossdomain",
    "sias.tasks",
    "sias.households",
    "sias.api",
    "sias.duplicates",
    "sias.evaluations",
    "sias.notes",
    "sias.reception",
    "sias.thirdparties",
    "sias.privacy",
    "sias.controle",
    "sias.dictionaries",
    "sias.directory",
    "sias.documents",
    "sias.population",
    "sias.training",
    "sias.endpoints",
]

MIDDLEWARE = [
    "sias.platform.middleware.MetricsMiddleware",
    "sias.platform.middleware.RoomMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "sias.platform.middleware.HeadersMiddleware",
    "sias.journal.access.JournalMiddleware",
    "sias.platform.failover.FailoverMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "sias.platform.middleware.SignInMiddleware",
    "sias.habilitations.middleware.HabilitationMiddleware",
    "sias.history.context.HistoryMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "sias.urls"
WSGI_APPLICATION = "sias.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "sias.platform.middleware.platform_context",
                "sias.habilitations.menu.menu_context",
            ],
            "loaders": [
                ("django.template.loaders.cached.Loader", ["django.template.loaders.filesystem.Loader"]),
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.DjangoTemplates"

# --- database: see platform/postgresql/base.py -----------------------------------------------------------------------
_user = os.environ.get("SIAS_DATABASE_USER", "sias_app")
_host = os.environ.get("SIAS_DATABASE_HOST", "/run/pgbouncer")
_password = credential(
    "database_owner_password" if _user == "sias_owner" else "database_password", workstation=WORKSTATION, default=""
)


def _database(name: str, *, primary: bool) -> dict:
    return {
        "ENGINE": "sias.platform.postgresql",
        "NAME": name,
        "USER": _user,
        "PASSWORD": _password,
        "HOST": _host,
        "PORT": os.environ.get("SIAS_DATABASE_PORT", "6432"),
        # One connection per thread to the PgBouncer of this host, checked at the start of each request.
        "CONN_MAX_AGE": 300,
        "CONN_HEALTH_CHECKS": True,
        # Transaction pooling: a cursor or a prepared statement would outlive its server connection.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {
            "require_primary": primary,
            "connect_timeout": 2,  # s
            "application_name": f"sias@{SIAS_HOST}",
            **({"sslmode": "prefer"} if not _host.startswith("/") else {}),
        },
    }


_name = os.environ.get("SIAS_DATABASE_NAME", "sias")
DATABASES = {
    "default": _database(_name, primary=True),
    "replica": _database(os.environ.get("SIAS_DATABASE_REPLICA_NAME", _name), primary=False)
    | {"TEST": {"MIRROR": "default"}},
}
DATABASE_ROUTERS = ["sias.platform.routing.Router"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# ms, every statement of a request but COMMIT; management commands (migrations, loads) have none.
SIAS_STATEMENT_TIMEOUT = int(os.environ.get("SIAS_STATEMENT_TIMEOUT_MS", "10000"))
SIAS_LOCK_TIMEOUT = 5_000  # ms
SIAS_PRIMARY_WAIT = 6.0  # s a request waits for a primary, its repetition included, before it gives up
SIAS_REPLICA_WAIT = 0.5  # s a reading waits for a replica before it turns to the primary
SIAS_CHECK_TIMEOUT = 1.5  # s a connection has at least to prove that it leads to a usable server
SIAS_RETRY_AFTER = 5  # s, told to clients with a 503

# --- accounts and sessions -------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.Agent"
LOGIN_URL = "/connexion/"
LOGIN_REDIRECT_URL = "/"  # leads to the first page that the agent may use
LOGOUT_REDIRECT_URL = "/connexion/"
# scrypt: memory-hard, in the standard library, a tenth of the processor time of PBKDF2's defaults.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
# --- the department's directory and its OpenID Connect provider: see directory/; both off unless said ------------------
SIAS_LDAP_SERVERS = os.environ.get("SIAS_LDAP_SERVERS", "").split()  # ldap:// (StartTLS) or ldaps://, own room first
SIAS_LDAP_SOCKETS = os.environ.get("SIAS_LDAP_SOCKETS", "")  # folder with a socket per server's name, instead of TCP
SIAS_LDAP_CA = os.environ.get("SIAS_LDAP_CA", "/etc/sias/pki/ca.crt")  # the authority of their certificates
SIAS_LDAP_BASE = os.environ.get("SIAS_LDAP_BASE", "")
SIAS_LDAP_USER = os.environ.get("SIAS_LDAP_USER", "")  # the account that reads
SIAS_LDAP_PASSWORD = credential("ldap_password", workstation=WORKSTATION) if SIAS_LDAP_SERVERS else ""
SIAS_LDAP_SIGN_IN = os.environ.get("SIAS_LDAP_SIGN_IN", "1") == "1"  # whether agents sign in with its passwords
SIAS_LDAP_MOST_DEPARTURES = int(os.environ.get("SIAS_LDAP_MOST_DEPARTURES", "5"))  # % a pass may lock out unasked
SIAS_STATE = os.environ.get("STATE_DIRECTORY", "")  # folder where the worker tells its figures; systemd names it
OIDC_ISSUER = os.environ.get("SIAS_OIDC_ISSUER", "")
OIDC_LABEL = os.environ.get("SIAS_OIDC_LABEL", "S'identifier avec ProConnect")
OIDC_RP_CLIENT_ID = os.environ.get("SIAS_OIDC_CLIENT_ID", "")
OIDC_RP_CLIENT_SECRET = credential("oidc_client_secret", workstation=WORKSTATION) if OIDC_ISSUER else ""
OIDC_RP_SCOPES = os.environ.get("SIAS_OIDC_SCOPES", "openid email")
# ProConnect asks for one ("eidas1"); the authorities of its certificate are the machine's unless said.
OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"acr_values": _acr} if (_acr := os.environ.get("SIAS_OIDC_ACR", "")) else {}
OIDC_VERIFY_SSL = os.environ.get("SIAS_OIDC_CA") or "/etc/ssl/certs/ca-certificates.crt"
OIDC_RP_SIGN_ALGO = "RS256"
OIDC_USE_PKCE = True
OIDC_STORE_ID_TOKEN = True  # signing out there asks for it
OIDC_TIMEOUT = 5  # s
OIDC_CREATE_USER = False
OIDC_AUTHENTICATION_CALLBACK_URL = "directory:oidc_callback"
AUTHENTICATION_BACKENDS = [
    "sias.directory.backends.DirectoryBackend",
    "django.contrib.auth.backends.ModelBackend",
    *(["sias.directory.oidc.ProviderBackend"] if OIDC_ISSUER else []),
]
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_AGE = 10 * 3600  # s, a working day
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_NAME = "sias_session"
CSRF_COOKIE_NAME = "sias_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not WORKSTATION
CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "sias.platform.views.csrf_failure"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 0 if WORKSTATION else 31_536_000
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
SILENCED_SYSTEM_CHECKS = [
    "security.W005",
    "security.W021",  # HSTS of subdomains and preload: the name belongs to the organisation
    "security.W008",  # the redirect to https is HAProxy's
]

# --- language, static files, documents -------------------------------------------------------------------------------
LANGUAGE_CODE = "fr"
LANGUAGES = [("fr", "Français")]
TIME_ZONE = "Europe/Paris"
USE_TZ = True
USE_I18N = True

STATIC_URL = "/static/"
STATIC_ROOT = BASE / "staticfiles"
STATICFILES_DIRS = [BASE / "static"]
_collected = (STATIC_ROOT / "staticfiles.json").exists()
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = not _collected
STORAGES = {
    "default": {"BACKEND": "sias.documents.storage.ContentAddressedStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if _collected
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
SIAS_DOCUMENTS_ROOT = Path(os.environ.get("SIAS_DOCUMENTS_ROOT", "/srv/sias/documents"))
# Deployed, the folder is a mount of the replicated volume: writing to the host's own disk below it would lose them.
SIAS_DOCUMENTS_MOUNTED = not WORKSTATION
SIAS_DOCUMENT_MAX = 20 * 1024 * 1024  # bytes
# Entries of the access log that wait for a primary (see journal/access.py); the only folder the web service may write.
SIAS_JOURNAL_SPOOL = Path(
    os.environ.get("SIAS_JOURNAL_SPOOL", f"{os.environ.get('SIAS_WEB_RUNTIME', '/run/sias-web')}/journal")
)
DATA_UPLOAD_MAX_NUMBER_FIELDS = 200
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"calm": {"()": "sias.platform.outage.CalmFilter"}},
    "formatters": {"line": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["calm"]}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {"django": {"handlers": [], "propagate": True, "level": "INFO"}},
}
LOGGING_CONFIG = "logging.config.dictConfig"
