"""Billing's transcripts as the gateway's store of them."""

from billing import transcripts
from billing.transcripts import Taken
from proxy.gateway.transcripts import Transcript, text_of
from proxy.in_thread import in_thread


class TranscriptStore:
    """See `proxy.gateway.transcripts.TranscriptStore`."""

    async def keep(self, taken: list[Transcript]) -> None:
        await in_thread(lambda: transcripts.keep([_words_of(one) for one in taken]))


def _words_of(one: Transcript) -> Taken:
    return Taken(one.request_id, one.organization_id, one.days, one.request.decode(), text_of(one.answer))
