"""Errors over HTTP, as RFC 9457 problem documents."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from twisted.web.http import Request
from twisted.web.resource import Resource

CONTENT_TYPE = b"application/problem+json"


def problem_body(request: Request, status: int, detail: str, **members: Any) -> bytes:
    """Set up an error answer and return its body.

    Args:
        status: The HTTP status.
        detail: What this request met, for a person; no patient data.
        members: Further members of the document (RFC 9457 §3.2).
    """
    request.setResponseCode(status)
    request.setHeader(b"content-type", CONTENT_TYPE)
    request.setHeader(b"cache-control", b"no-store")
    title = HTTPStatus(status).phrase
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
    return json.dumps(document).encode() + b"\n"


class Problem(Resource):
    """A resource that answers every request with the same problem.

    Args:
        status: The HTTP status.
        detail: What the requests meet.
    """

    isLeaf = True

    def __init__(self, status: int, detail: str) -> None:
        super().__init__()
        self._status = status
        self._detail = detail

    def render(self, request: Request) -> bytes:
        """Answer whatever the method."""
        return problem_body(request, self._status, self._detail)
