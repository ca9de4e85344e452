"""Setting credit aside before the call, and telling the caller why when it cannot be."""

import asyncio
import contextlib

from billing import pricing
from billing.money import format_credits
from billing.teller import Granted, HoldRequest, Refused, Teller
from proxy.gateway import ceilings, image_tool
from proxy.gateway.endpoints import DEFAULT_OUTPUT_TOKENS
from proxy.gateway.errors import (
    BudgetExceeded,
    Forbidden,
    GatewayError,
    InsufficientQuota,
    InvalidRequest,
    Unauthenticated,
    UserBlocked,
)
from proxy.gateway.exchange import Ending, Exchange

# Below this an answer without a limit of the client's own is not worth starting.
MIN_OUTPUT_TOKENS = 16
RELEASE_TIMEOUT_S = 10.0


class Cashier:
    """Holds credit for exchanges. `site_url` is where people top up."""

    def __init__(self, teller: Teller, *, site_url: str) -> None:
        self.teller = teller
        self._site_url = site_url

    async def hold(self, exchange: Exchange) -> int:
        """Hold the most that `exchange` can cost; returns what is left available, in nano-dollars.

        A client that set no limit gets 4,096 output tokens, or as many as the balance affords: then the upstream is
        told that limit. What goes with it is held first. Raises the error that the client shall see, or
        `TellerUnavailable`; then nothing is held.
        """
        if exchange.companion is None:
            return await self._hold(exchange)
        await self._hold_images(exchange, exchange.companion)
        try:
            return await self._hold(exchange)
        except BaseException as error:
            await self._release_images(exchange, error)
            raise

    async def _hold(self, exchange: Exchange) -> int:
        job, route = exchange.job, exchange.route
        outputs = job.output_tokens
        if outputs is None:
            outputs = min(DEFAULT_OUTPUT_TOKENS, route.max_output_tokens or DEFAULT_OUTPUT_TOKENS)
        elif route.max_output_tokens:
            outputs = min(outputs, route.max_output_tokens)
        outputs = self._under_ceiling(exchange, outputs)
        answer = await self._ask(exchange, outputs * job.answers)
        if isinstance(answer, Refused) and answer.reason == "insufficient_credit" and job.output_tokens is None:
            affordable = self._affordable_outputs(exchange, answer.affordable) // job.answers
            if affordable >= MIN_OUTPUT_TOKENS:
                exchange.output_cap = affordable
                answer = await self._ask(exchange, affordable * job.answers)
        if isinstance(answer, Refused):
            raise self.refusal(exchange, answer)
        return answer.available

    async def _hold_images(self, exchange: Exchange, companion: Exchange) -> None:
        """Hold for all the images that may be made, or for one where the client set no limit and that is too much."""
        try:
            await self._hold(companion)
        except (InsufficientQuota, BudgetExceeded):
            if not image_tool.make_do(exchange):
                raise
            await self._hold(companion)

    async def _release_images(self, exchange: Exchange, error: BaseException) -> None:
        status, code = (error.status, error.code) if isinstance(error, GatewayError) else (503, "admission_abandoned")
        void = image_tool.released(exchange, Ending("refused", status, code or ""))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await asyncio.shield(self.teller.capture(void))

    async def extend(self, exchange: Exchange) -> GatewayError | None:
        """Hold for another 4,096 tokens of each answer; the error to end with when that is refused."""
        more = DEFAULT_OUTPUT_TOKENS * exchange.job.answers
        outputs = exchange.hold_output_tokens + more
        amount = max(1, self._worst_case(exchange, outputs) - exchange.hold_nanos)
        needed = exchange.hold_nanos + amount + exchange.beside_nanos
        if exchange.max_nanos is not None and needed > exchange.max_nanos:
            return ceilings.exceeded(exchange.max_nanos, needed)
        answer = await self.teller.extend(exchange.request_id, amount, more)
        if isinstance(answer, Refused):
            return self.refusal(exchange, answer, more=(amount, more))
        exchange.hold_nanos += amount
        exchange.hold_output_tokens = outputs
        return None

    def refusal(self, exchange: Exchange, refused: Refused, *, more: tuple[int, int] | None = None) -> GatewayError:
        """The error for a hold that was refused, or for `more` nano-dollars and tokens beside it."""
        match refused.reason:
            case "budget" if refused.rule:
                nanos, tokens = more or (exchange.hold_nanos, exchange.job.input_tokens + exchange.hold_output_tokens)
                return ceilings.over_budget(refused.rule, self._console(exchange), nanos=nanos, tokens=tokens)
            case "user_blocked":
                return UserBlocked((refused.rule or {}).get("reason", ""))
            case "key_revoked":
                return Unauthenticated("This API key has been revoked or has expired.")
            case "account_frozen":
                return Forbidden(
                    f"This organization's account is frozen. See {self._console(exchange)}", code="account_frozen"
                )
        url = f"{self._console(exchange)}billing/"
        return InsufficientQuota(
            f"There is not enough credit for this request: {format_credits(max(0, refused.affordable))} credits are "
            f"available, it may cost up to {format_credits(exchange.hold_nanos)}. Top up at {url}",
            top_up_url=url,
        )

    def _under_ceiling(self, exchange: Exchange, outputs: int) -> int:
        """The outputs of each answer that the call's own ceiling allows; fewer only where the client set no limit.

        Raises `BudgetExceeded`.
        """
        ceiling, answers = exchange.max_nanos, exchange.job.answers
        if ceiling is None:
            return outputs
        beside = exchange.beside_nanos
        if self._worst_case(exchange, outputs * answers) + beside <= ceiling:
            return outputs
        if exchange.job.output_tokens is None:
            exchange.hold_output_tokens = outputs * answers
            fits = self._affordable_outputs(exchange, ceiling - beside) // answers
            if fits >= MIN_OUTPUT_TOKENS:
                exchange.output_cap = fits
                return fits
        raise ceilings.exceeded(ceiling, self._worst_case(exchange, outputs * answers) + beside)

    async def _ask(self, exchange: Exchange, outputs: int) -> Granted | Refused:
        exchange.hold_output_tokens = outputs
        exchange.hold_nanos = max(1, self._worst_case(exchange, outputs))
        return await self.teller.hold(
            HoldRequest(
                request_id=exchange.request_id,
                account_id=exchange.key.account_id,
                organization_id=exchange.key.organization_id,
                key_id=exchange.key.id,
                amount=exchange.hold_nanos,
                tokens=exchange.job.input_tokens + outputs,
                model=exchange.route.model,
                endpoint=exchange.endpoint.path,
                price_version=exchange.rate.version,
                end_user=exchange.end_user,
                run_id=exchange.run_id,
                stream=exchange.job.is_stream,
                run_cap=0 if exchange.run_max_nanos is None or not exchange.run_id else max(1, exchange.run_max_nanos),
            )
        )

    def _worst_case(self, exchange: Exchange, outputs: int) -> int:
        job = exchange.job
        try:
            return pricing.worst_case(
                job.input_tokens,
                outputs,
                exchange.rate,
                job.tier,
                units=job.units,
                keeps_cache_12h=job.keeps_cache_12h,
            )
        except pricing.Unpriced as error:
            raise InvalidRequest(
                f"The model {job.model!r} has no price for {error.unit} and cannot be used here.",
                param="model",
                code="model_not_priced",
            ) from None

    def _affordable_outputs(self, exchange: Exchange, affordable: int) -> int:
        """How many output tokens `affordable` nano-dollars pay for beside the input, by bisection on the price."""
        low, high = 0, exchange.hold_output_tokens
        while low < high:
            middle = (low + high + 1) // 2
            if self._worst_case(exchange, middle) <= affordable:
                low = middle
            else:
                high = middle - 1
        return low

    def _console(self, exchange: Exchange) -> str:
        return f"{self._site_url}/o/{exchange.key.organization_slug}/"
