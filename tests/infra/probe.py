"""Runs inside a machine, with its own Python and nothing else: tries many TCP connections at once.

Reads JSON lists [address, port, how] from standard input; how is "tcp" (connect), "plain" (connect, speak HTTP without
TLS) or "tls" (handshake without a client certificate, then a request). Writes one JSON line per attempt, in the same
order: connected | refused | timeout | unreachable | answered:<first bytes> | closed | alert:<reason>
"""

import concurrent.futures
import json
import socket
import ssl
import sys

TIMEOUT = 1.5
REQUEST = b"GET / HTTP/1.0\r\nHost: sias.internal\r\n\r\n"


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
        if how == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = context.wrap_socket(connection)
        connection.sendall(REQUEST)
        answer = connection.recv(64)
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
