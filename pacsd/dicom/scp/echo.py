"""C-ECHO SCP (PS3.4 Annex A)."""

from __future__ import annotations

from pacsd.dicom.dispatch import Request
from pacsd.dicom.inbound import response_to


async def echo(request: Request) -> None:
    """Answer Success."""
    request.association.respond(request.context.id, response_to(request.command, 0x0000))
