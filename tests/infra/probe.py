"""Runs inside a machine, with its own Python and nothing else: tries many TCP connections at once.

Reads JSON lists [address, port, how] from standard input; how is
  tcp           connect
  plain         connect, speak HTTP without TLS
  tls           handshake without a client certificate, then a request
  postgres      PostgreSQL's protocol without TLS: the first message of a session
  postgres-tls  the same inside TLS without a client certificate

Writes one JSON line per attempt, in the same order: connected | refused | timeout | unreachable:<why> | silent | closed
| answered:<first bytes> | alert:<reason>
"""

import concurrent.futures
import json
import socket
import ssl
import struct
import sys

TIMEOUT = 1.5
REQUEST = b"GET / HTTP/1.0\r\nHost: sias.internal\r\n\r\n"
STARTUP = b"\x00\x03\x00\x00" + b"user\x00sias_app\x00database\x00sias\x00\x00"  # protocol 3.0
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def attempt(address: str, port: int, how: str) -> str:
    """Try one connection and say what came of it."""
    try:
        with socket.create_connection((address, port), TIMEOUT) as connection:
            connection.settimeout(TIMEOUT)
            return "connected" if how == "tcp" else speak(connection, how)
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return f"unreachable:{error.strerror}"


def speak(connection: socket.socket, how: str) -> str:
    """Send a request over an open connection, wrapped in TLS when asked, and say what came back."""
    try:
        if how == "postgres-tls":
            connection.sendall(SSL_REQUEST)
            if connection.recv(1) != b"S":
                return "closed"
        if how.endswith("tls"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = context.wrap_socket(connection)
        first = struct.pack("!i", len(STARTUP) + 4) + STARTUP if how.startswith("postgres") else REQUEST
        connection.sendall(first)
        answer = connection.recv(300)
    except TimeoutError:
        return "silent"
    except ssl.SSLError as error:
        return f"alert:{error.reason}"
    except OSError:
        return "closed"
    return f"answered:{answer.decode('latin-1')}" if answer else "closed"


def main() -> None:
    """Try everything that standard input names."""
    attempts = [json.loads(line) for line in sys.stdin]
    with concurrent.futures.ThreadPoolExecutor(max_workers=32) as pool:
        for result in pool.map(lambda a: attempt(*a), attempts):
            print(json.dumps(result))


if __name__ == "__main__":
    main()
