"""Every model of the catalogue on every endpoint that it says it serves: priced, or refused; never for nothing."""

import io

import pytest
from django.core.management import call_command

from billing import rates
from billing.pricing import Unpriced, worst_case
from proxy.gateway.endpoints import ENDPOINTS
from proxy.gateway.forms import FilePart, Form
from proxy.gateway.jobs import Endpoint, Job
from proxy.gateway.snapshots import Route
from proxy.models import Model

pytestmark = pytest.mark.django_db

BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5},
    "/v1/completions": {"prompt": "hello"},
    "/v1/embeddings": {"input": "hello"},
    "/v1/responses": {"input": "hello", "max_output_tokens": 5},
    "/v1/moderations": {"input": "hello"},
    "/v1/images/generations": {"prompt": "a fox"},
    "/v1/images/edits": {"prompt": "a fox"},
    "/v1/images/variations": {},
    "/v1/audio/transcriptions": {},
    "/v1/audio/translations": {},
    "/v1/audio/speech": {"input": "hello", "voice": "alloy"},
}


def job_of(endpoint: Endpoint, model: str) -> Job:
    body = {"model": model, **BODIES[endpoint.path]}
    if endpoint.parse is not None:
        return endpoint.parse(body)
    assert endpoint.parse_form is not None
    files = [FilePart("file", "a.wav", "", 0, 60_000), FilePart("image", "a.png", "", 0, 10)]
    return endpoint.parse_form(body, Form(io.BytesIO(), [(part.name, part) for part in files]))


def test_every_priced_model_can_be_held_for_on_each_of_its_endpoints():
    call_command("load_prices", verbosity=0)
    known = rates.current_rates()
    free, held, unpriced = [], 0, []
    for model in Model.objects.all():
        rate = known.get(model.name)
        for path in model.endpoints:
            if path not in ENDPOINTS:
                continue
            if rate is None:
                unpriced.append(model.name)
                continue
            endpoint = ENDPOINTS[path]
            job = job_of(endpoint, model.name)
            route = Route(model=model.name, owned_by="", created=1, rate=rate, deployments=())
            if endpoint.bound is not None:
                endpoint.bound(job, route, rate)
            try:
                amount = worst_case(
                    job.input_tokens, (job.output_tokens or 0) * job.answers, rate, job.tier, units=job.units
                )
            except Unpriced as error:
                pytest.fail(f"{model.name} on {path}: {error}")
            held += 1
            if not amount:
                free.append(model.name)
    assert held > 150
    # What is free says so with a price of 0; moderation is, and a few models in beta.
    for name in set(free):
        prices = known[name]
        told = [price for price in (prices.base.input, prices.base.output) if price is not None]
        assert all(price == 0 for price in told)
        assert all(unit.nanos_per_million == 0 for unit in prices.units.values())
    assert all(Model.objects.get(name=name).status in {"unpriced", "disputed"} for name in set(unpriced))


def test_the_catalogue_is_as_large_as_promised():
    call_command("load_prices", verbosity=0)
    assert Model.objects.filter(name__startswith="@cf/").count() >= 60
    served = {name for model in Model.objects.all() for name in (model.name, *model.snapshots)}
    assert {"gpt-fast", "gpt-full", "embed", "gpt-4o-mini", "gpt-image-2"} <= served
