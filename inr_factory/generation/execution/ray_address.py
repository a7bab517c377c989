"""Ray address: whether a server answers where a Ray cluster should be. Ray itself waits for minutes, or ends the process."""

import os
import socket

from inr_factory.errors import ResourceError, UsageError, one_line

ANSWER_SECONDS = 10.0
# What a client of gRPC says first (RFC 9113, section 3.4): the preface of HTTP/2 and an empty frame of settings.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = 4  # the type of the frame that a server answers with


class RayUnavailableError(ResourceError):
    """Ray cannot start on this machine."""


def check_address(resolved: str, given: str, where: str) -> None:
    """Raise UsageError unless a server of gRPC answers at HOST:PORT.

    Args:
        resolved: the address, also ray://HOST:PORT.
        given: the address as the user wrote it.
        where: what gave it: an option or a variable.
    """
    host, colon, port = resolved.rpartition("://")[2].rpartition(":")
    reason = ""
    if not colon or not port.isdecimal() or not 0 < int(port) < 65_536:
        reason = "expected HOST:PORT"
    else:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS) as connection:
                if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
                    connection.sendall(PREFACE)
                    answer = connection.recv(9)
                    if len(answer) < 4 or answer[3] != SETTINGS:
                        reason = "another kind of server answers"
        except OSError as error:
            reason = one_line(error)
    if reason:
        raise UsageError(no_answer(given, where, reason))


def no_answer(given: str, where: str, reason: str) -> str:
    """The message for an address without a cluster, with what is wrong most often."""
    token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    hint = "" if token else "; a cluster with tokens needs RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
    remedy = "unset it" if where.startswith("$") else "correct it"
    return f"no Ray cluster answers at {given} (from {where}): {reason}; {remedy}, or use --backend local{hint}"
