"""C-FIND: Patient Root, Study Root, Patient/Study Only (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from time import perf_counter

from pacsd.dicom.dispatch import Request
from pacsd.dicom.inbound import response_to
from pacsd.dicom.scp.models import ROOT_OF
from pacsd.dicom.scp.suboperations import identifier_of, refuse
from pacsd.dicom.wire import status
from pacsd.model.attributes import QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE, SPECIFIC_CHARACTER_SET
from pacsd.model.dataset import Dataset, Element, encode
from pacsd.model.errors import Cancelled, OutOfResources
from pacsd.model.syntax import TransferSyntax, transfer_syntax
from pacsd.runtime.logs import get_logger
from pacsd.workflow.ports import Index, Offload
from pacsd.workflow.query import Abilities, IdentifierRefused, pages, typed_query

log = get_logger("pacsd.dicom")


class Find:
    """The handler of C-FIND requests.

    Args:
        ae_title: where what is found can be retrieved from (Retrieve AE Title, 0008,0054).
        limit: the most answers to one query; more end it with A700, so that nobody takes a part for the whole.
    """

    def __init__(self, index: Index, offload: Offload, *, ae_title: str, limit: int) -> None:
        self._index = index
        self._offload = offload
        self._ae_title = ae_title
        self._limit = limit

    async def __call__(self, request: Request) -> None:
        """Answer one request. Raises errors.PacsError, AssociationLost."""
        started_s = perf_counter()
        try:
            n_answers = await self._answer(request)
        except IdentifierRefused as error:
            refuse(request, error)
            return
        log.info("query", peer=request.association.calling_ae, n_answers=n_answers,
                 cancelled=request.cancelled, took_ms=round((perf_counter() - started_s) * 1e3, 1))  # fmt: skip
        if request.cancelled:
            raise Cancelled("cancelled by the requester")
        request.association.respond(request.context.id, response_to(request.command, status.SUCCESS))

    async def _answer(self, request: Request) -> int:
        association, context = request.association, request.context
        identifier = identifier_of(request)
        abilities = Abilities.of(association.extended.get(context.abstract_syntax, b""))
        query = typed_query(ROOT_OF[context.abstract_syntax], identifier, abilities, limit=self._limit + 1)
        added = {
            QUERY_RETRIEVE_LEVEL: Element("CS", (query.level.name,)),
            RETRIEVE_AE_TITLE: Element("AE", (self._ae_title,)),
        }
        charset = tuple(identifier.texts(SPECIFIC_CHARACTER_SET))
        syntax = transfer_syntax(context.transfer_syntax)
        n_answers = 0
        async with aclosing(pages(query, self._index, self._offload, cancelled=lambda: request.cancelled)) as found:
            async for page in found:
                answers = await self._offload.run(encode_answers, page.matches, added, syntax, charset)
                code = status.PENDING_UNSUPPORTED_KEYS if page.unsupported else status.PENDING
                pending = response_to(request.command, code, has_dataset=True)
                for answer in answers:
                    if request.cancelled:
                        return n_answers
                    if n_answers == self._limit:
                        raise OutOfResources(f"more than {self._limit} matches; narrow the query")
                    association.respond(context.id, pending, answer)
                    n_answers += 1
                await association.drained()
        return n_answers


def encode_answers(
    matches: Sequence[Dataset], added: dict[int, Element], syntax: TransferSyntax, charset: tuple[str, ...]
) -> list[bytes]:
    """The identifiers of the responses. Thread: any.

    Args:
        added: elements that each answer gets.
        charset: the requester's; an answer that it can't hold comes in UTF-8 (PS3.4 C.4.1.1.3.2).
    """
    return [encode(Dataset({**match, **added}), syntax, charset or None) for match in matches]
