"""Tokens and sign-in against an identity provider on loopback that keeps the rules, and lies when it is told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt as pyjwt
import pytest
from aiohttp import web
from authlib.integrations.requests_client import OAuth2Session
from requests import Session

from gateway.certificates.links import links
from gateway.certs import _call
from gateway.doctor.context import Context
from gateway.doctor.providers import provider as probe
from gateway.lab.jws import LabKey
from gateway.lab.provider import LabClient, Switch
from gateway.providers.door import BEARER, tokened
from gateway.providers.tokens import ResourceServer
from gateway.settings import Settings
from security.errors import Refused, Unavailable
from security.policy import Action, Purpose, Refusal, Role, Tell, Zone, untold
from security.tokens.bearer import thumbprint
from tests.support.pki import der
from tests.support.providers import AUDIENCE, BACK, PERSON, SECRET, Stage, stage

ROUTES = {
    ("GET", "/studies/{study}"): Action.IMAGE_READ,
    ("GET", "/{tenant}/studies/{study}/series/{series}"): Action.IMAGE_READ,
    ("GET", "/exams"): Action.EXAM_READ,
}


@pytest.fixture
async def place(tmp_path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as found:
        yield found


def images(server: ResourceServer, tell: Tell = untold) -> web.Application:
    """An application as a capability that serves images builds it."""

    async def shown(request: web.Request) -> web.Response:
        bearer = request[BEARER]
        return web.json_response({"who": bearer.subject.name, "purpose": bearer.purpose})

    app = web.Application(middlewares=[tokened(ROUTES, zone=Zone.PEERS, server=server, tell=tell)])
    for method, path in [*ROUTES, ("GET", "/stated-by-nobody")]:
        app.router.add_route(method, path, shown)
    return app


async def refusal(place: Stage, server: ResourceServer, token: str, certificate: bytes | None = None) -> str:
    with pytest.raises((Refused, Unavailable)) as fault:
        await server.judge(token, der(place.peer) if certificate is None else certificate)
    return fault.value.code


# ── access tokens ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_t42_over_real_tls_a_token_opens_for_its_certificate_and_a_stolen_one_for_nobody(place):
    async with place.door(images(place.server())) as url:
        status, said, _ = await place.get(f"{url}/studies/1.2.3", place.token())
        assert (status, said) == (200, {"who": f"psc:{PERSON}", "purpose": "treatment"})
        status, said, headers = await place.get(f"{url}/studies/1.2.3", place.token(), who=place.thief)
        assert (status, said["code"]) == (401, "token-of-another")
        assert headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_t27_a_certificate_named_by_a_header_is_nobodys(place):
    async with place.door(images(place.server())) as url:
        token = place.token()
        shown = base64.b64encode(der(place.peer)).decode()
        for name in ("X-Client-Cert", "X-SSL-Cert", "Client-Cert"):
            status, said, _ = await place.get(f"{url}/studies/1", token, who=place.thief, **{name: shown})
            assert (status, said["code"]) == (401, "token-of-another")


async def test_ff38_every_route_refuses_every_token_that_is_not_for_it(place):
    elsewhere = LabKey.create("first")
    good = place.token()
    claims = pyjwt.decode(good, options={"verify_signature": False})
    tokens = {
        "": "token-absent",
        elsewhere.token(claims): "token-signature",
        place.token(exp=int(time.time()) - 3600, iat=int(time.time()) - 7000): "token-expired",
        place.token(aud="https://another.example"): "token-audience",
        place.token(extensions=None): "token-role",
        place.token(cnf=None): "token-unbound",
        place.token(scope="RAD-1"): "token-scope",
    }
    async with place.door(images(place.server(scopes=["openid"], tenant="chu"))) as url:
        paths = ["/studies/1.2", "/chu/studies/1.2/series/1.3", "/exams", "/stated-by-nobody"]
        for path in paths:
            for token, code in tokens.items():
                status, said, _ = await place.get(f"{url}{path}", token)
                assert (status, said["code"]) == (401, code), path
        answers = [(await place.get(f"{url}{path}", good))[0] for path in [*paths, "/ghu/studies/1.2/series/1.3"]]
        assert answers == [200, 200, 403, 403, 403], "another zone's action, nobody's action, another legal entity"
        assert (await place.get(f"{url}/nowhere"))[0] == 404


async def test_one_bearer_token_in_one_header_counts_and_nothing_else(place):
    async with place.door(images(place.server())) as url:
        token = place.token()
        status, said, _ = await place.get(f"{url}/studies/1?access_token={token}")
        assert (status, said["code"]) == (401, "token-absent")
        for stated in ("Basic abc", token, "Bearer ", f"Bearer {token} {token}"):
            status, said, _ = await place.get(f"{url}/studies/1", Authorization=stated)
            assert (status, said["code"]) == (401, "token-form"), stated[:10]
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=place.pki.client(place.peer))) as session,
            session.get(
                f"{url}/studies/1", headers=[("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
            ) as answer,
        ):
            assert answer.status in {400, 401}


async def test_ff53_an_expired_token_says_so_and_a_new_one_goes_on(place):
    async with place.door(images(place.server(skew_s=0))) as url:
        token = place.token()
        assert (await place.get(f"{url}/studies/1", token))[0] == 200
        place.clock.by = 301
        status, said, _ = await place.get(f"{url}/studies/1", token)
        assert (status, said["code"]) == (401, "token-expired")
        place.clock.by = 0
        assert (await place.get(f"{url}/studies/1", place.token()))[0] == 200


async def test_ff39_no_token_secret_or_claim_is_in_logs_or_answers(place, capsys, caplog):
    marked = place.token(sub="marker-sub-7f3a", secret_claim="marker-claim-7f3a")
    said = []
    async with place.door(images(place.server())) as url:
        for token in (marked, marked[:-3] + "AAA", "marker-form-7f3a", marked + ".x"):
            _, body, headers = await place.get(f"{url}/studies/1", token, who=place.thief)
            said.append(json.dumps(body) + str(headers))
    await place.provider.stop()
    said.append(await refusal(place, place.server(), marked))
    captured = capsys.readouterr()
    everything = captured.out + captured.err + caplog.text + "".join(said)
    assert "token-refused" in everything
    assert hashlib.sha256(marked.encode()).hexdigest()[:12] in everything
    assert "marker-" not in everything
    assert not any(part in everything for part in marked.split("."))


async def test_t44_while_the_provider_is_down_nobody_reads_and_afterwards_everybody_does(place):
    server = place.server(binding="introspection", introspection_cache_s=1)
    async with place.door(images(server)) as url:
        held = place.token(cnf=None)
        assert (await place.get(f"{url}/studies/1", held))[0] == 200
        place.clock.by += 1.1
        await place.provider.stop()
        answers = [await place.get(f"{url}/studies/1", token) for token in [held] + [place.token(cnf=None)] * 9]
        assert [status for status, _, _ in answers] == [503] * 10
        assert {headers["Retry-After"] for _, _, headers in answers} == {"5"}
        await place.provider.start()
        assert (await place.get(f"{url}/studies/1", held))[0] == 200


async def test_what_the_token_door_refuses_is_told_to_the_trail_with_the_certificate_and_no_token(place):
    told: list[Refusal] = []
    thief, peer = (f"certificate {hashlib.sha256(der(one)).hexdigest()[:16]}" for one in (place.thief, place.peer))
    async with place.door(images(place.server(), told.append)) as url:
        await place.get(f"{url}/studies/1", place.token(), who=place.thief)
        await place.get(f"{url}/stated-by-nobody", place.token())
    given_up = place.token(cnf=None)
    place.provider.revoke(PERSON)
    async with place.door(images(place.server(binding="introspection"), told.append)) as url:
        await place.get(f"{url}/studies/1", given_up)
        await place.provider.stop()
        await place.get(f"{url}/studies/1", place.token(cnf=None))
    assert [(one.event, one.reason, one.actor) for one in told] == [
        ("token.refused", "token-of-another", thief),
        ("access.denied", "no-rule", f"psc:{PERSON}"),
        ("token.refused", "token-inactive", peer),
        ("token.refused", "fetch-failed", peer),
    ]
    assert {one.zone for one in told} == {Zone.PEERS}


@pytest.mark.parametrize(
    ("switch", "code"),
    [
        (Switch.INTROSPECTION_DOWN, "provider-answer"),
        (Switch.INTROSPECTION_HUGE, "provider-answer"),
        (Switch.INTROSPECTION_ELSEWHERE, "provider-answer"),
        (Switch.INTROSPECTION_PAGE, "provider-answer"),
        (Switch.INTROSPECTION_OTHER, "token-disagreed"),
    ],
)
async def test_t44_whatever_the_provider_answers_wrongly_is_no_yes_and_is_not_remembered(place, switch, code):
    server = place.server(binding="introspection")
    token = place.token(cnf=None)
    place.provider.switches = {switch}
    assert await refusal(place, server, token) == code
    place.provider.switches = set()
    place.clock.by += 61
    assert (await server.judge(token, der(place.peer))).purpose is Purpose.TREATMENT


async def test_t44_a_slow_provider_is_an_outage_at_the_deadline_and_one_question_serves_all_who_wait(
    place, monkeypatch
):
    monkeypatch.setattr("gateway.providers.channel.TIMEOUT_S", 1.0)
    server = place.server(binding="introspection")
    token = place.token(cnf=None)
    place.provider.switches = {Switch.INTROSPECTION_SLOW}
    began = time.monotonic()
    codes = await asyncio.gather(*(refusal(place, server, token) for _ in range(20)))
    assert set(codes) == {"fetch-failed"}
    assert time.monotonic() - began < 5
    assert place.provider.counts["/introspect"] == 1


async def test_t44_a_yes_is_kept_a_minute_at_most_a_no_five_seconds_and_a_revoked_token_ends_with_it(place):
    server = place.server(binding="introspection", introspection_cache_s=60)
    token, peer = place.token(cnf=None), der(place.peer)

    async def asked() -> int:
        return place.provider.counts["/introspect"]

    for _ in range(5):
        await server.judge(token, peer)
    assert await asked() == 1
    place.provider.revoke(PERSON)
    await server.judge(token, peer)
    place.clock.by += 60
    assert await refusal(place, server, token) == "token-inactive"
    assert await refusal(place, server, token) == "token-inactive"
    assert await asked() == 2
    place.clock.by += 5
    assert await refusal(place, server, token) == "token-inactive"
    assert await asked() == 3


async def test_t44_a_token_whose_session_ended_is_asked_about_again_at_once(place):
    server = place.server(binding="introspection", introspection_cache_s=60)
    token, peer = place.token(cnf=None), der(place.peer)
    await server.judge(token, peer)
    place.provider.revoke(PERSON)
    server.forget(token)
    assert await refusal(place, server, token) == "token-inactive"


async def test_t44_an_answer_on_its_way_while_the_session_ends_is_not_kept(place):
    place.provider.seconds = 0.5
    server = place.server(binding="introspection", introspection_cache_s=60)
    token, peer = place.token(cnf=None), der(place.peer)
    place.provider.switches = {Switch.INTROSPECTION_SLOW}
    under_way = asyncio.ensure_future(server.judge(token, peer))
    while not place.provider.counts["/introspect"]:
        await asyncio.sleep(0.02)
    server.forget(token)
    await under_way
    place.provider.switches = set()
    place.provider.revoke(PERSON)
    assert await refusal(place, server, token) == "token-inactive"


async def test_t44_only_a_client_of_a_known_certificate_is_answered_and_only_the_real_provider_asked(place):
    place.provider.clients.clear()
    server = place.server(binding="introspection")
    assert await refusal(place, server, place.token(cnf=None)) == "provider-answer"
    from security.keys.lab_pki import LabAuthority

    other = LabAuthority.create(place.folder / "other-pki", now=place.clock.now())
    strange = place.server(binding="introspection", ca_file=other.certificate, revocation={"unknown": "allow"})
    assert await refusal(place, strange, place.token(cnf=None)) == "provider-keys"


async def test_t40_keys_that_were_rotated_are_found_and_invented_names_cause_no_flood(place):
    server, peer = place.server(introspection_url=""), der(place.peer)
    old = place.token()
    await server.judge(old, peer)
    place.provider.rotate("second")
    place.clock.by += 10
    await server.judge(place.token(), peer)
    assert await refusal(place, server, old) == "token-key"
    asked = place.provider.counts["/jwks"]
    for number in range(50):
        invented = LabKey.create(f"invented-{number}").token(pyjwt.decode(old, options={"verify_signature": False}))
        assert await refusal(place, server, invented) == "token-key"
    assert place.provider.counts["/jwks"] <= asked + 1


async def test_t40_a_withdrawn_key_ends_within_minutes_and_silence_within_the_hour(place):
    server, peer = place.server(introspection_url="", token_life_max_s=86400), der(place.peer)
    long_lived = place.token(exp=int(time.time()) + 80000)
    await server.judge(long_lived, peer)
    place.provider.switches = {Switch.KEYS_DOWN}
    place.clock.by += 3000
    await server.judge(long_lived, peer)
    place.clock.by += 601
    assert await refusal(place, server, long_lived) == "provider-keys"
    place.provider.switches = set()
    place.clock.by += 10
    await server.judge(long_lived, peer)
    place.provider.rotate("second")
    place.clock.by += 300
    assert await refusal(place, server, long_lived) == "token-key"


@pytest.mark.parametrize("switch", [Switch.KEYS_DOWN, Switch.KEYS_HUGE, Switch.KEYS_ELSEWHERE])
async def test_t40_keys_that_cannot_be_had_let_nobody_in(place, switch):
    place.provider.switches = {switch}
    assert await refusal(place, place.server(), place.token()) == "provider-keys"


async def test_t26_a_provider_on_a_network_nobody_named_is_not_asked(place):
    assert await refusal(place, place.server(networks=[]), place.token()) == "provider-keys"
    assert place.provider.counts["/jwks"] == 0


# ── sign-in ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_t43_a_person_signs_in_and_is_who_the_provider_says(place):
    party = place.party()
    departure = party.begin("/console/held")
    asked = parse_qs(urlsplit(departure.url).query)
    assert asked["response_type"] == ["code"]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [BACK]
    assert {len(asked[name][0]) for name in ("state", "nonce", "code_challenge")} == {43}
    arrival = await party.finish(await place.browse(departure.url), departure.browser)
    who = arrival.who
    assert (who.issuer, who.subject, arrival.back) == (place.provider.issuer, PERSON, "/console/held")
    assert not arrival.is_proof
    assert who.claims["SubjectRefPro"] == {"exercices": [{"activities": []}]}


@pytest.mark.parametrize(
    ("switch", "code"),
    [
        (Switch.WRONG_STATE, "signin-state"),
        (Switch.WRONG_NONCE, "signin-nonce"),
        (Switch.WRONG_ISS, "signin-issuer"),
        (Switch.NO_ISS, "signin-issuer"),
        (Switch.MIXED_ISSUER, "token-issuer"),
        (Switch.OTHER_AUD, "token-audience"),
        (Switch.OTHER_PARTY, "signin-client"),
        (Switch.EXPIRED, "token-expired"),
        (Switch.ALG_NONE, "token-form"),
        (Switch.ALG_HS256, "token-algorithm"),
        (Switch.OTHER_AT_HASH, "signin-access-token"),
        (Switch.LOW_LEVEL, "signin-level"),
        (Switch.OTHER_PERSON, "signin-userinfo"),
        (Switch.TOKEN_DOWN, "provider-answer"),
        (Switch.KEYS_DOWN, "provider-keys"),
    ],
)
async def test_t43_each_deviation_is_refused(place, switch, code):
    party = place.party()
    departure = party.begin("/")
    place.provider.switches = {switch}
    with pytest.raises((Refused, Unavailable)) as fault:
        await party.finish(await place.browse(departure.url), departure.browser)
    assert fault.value.code == code


async def test_t43_what_comes_back_is_taken_once_in_time_by_the_browser_that_left(place):
    party = place.party()

    async def code_of(query: list[tuple[str, str]], browser: str) -> str:
        with pytest.raises(Refused) as refused:
            await party.finish(query, browser)
        return refused.value.code

    departure = party.begin("/")
    query = await place.browse(departure.url)
    await party.finish(query, departure.browser)
    place.provider.switches = {Switch.CODE_REPLAY}
    assert await code_of(query, departure.browser) == "signin-state", "also where the provider takes a code twice"

    departure = party.begin("/")
    query = await place.browse(departure.url)
    assert await code_of(query, party.begin("/").browser) == "signin-browser"
    assert await code_of(query, departure.browser) == "signin-state", "one try, whatever it was"

    departure = party.begin("/")
    query = await place.browse(departure.url)
    place.clock.by += 300
    assert await code_of(query, departure.browser) == "signin-state"

    departure = party.begin("/")
    query = await place.browse(departure.url)
    assert await code_of([*query, ("code", "another")], departure.browser) == "signin-parameters"
    assert await code_of([], departure.browser) == "signin-state"


async def test_t43_a_code_of_another_login_is_worth_nothing_here(place):
    """Code injection: the attacker's code under the victim's state; PKCE tells, at the provider."""
    party = place.party()
    victim, attacker = party.begin("/"), party.begin("/")
    of_victim, of_attacker = dict(await place.browse(victim.url)), dict(await place.browse(attacker.url))
    with pytest.raises(Refused) as refused:
        await party.finish(list({**of_victim, "code": of_attacker["code"]}.items()), victim.browser)
    assert refused.value.code == "signin-code"


async def test_t43_what_the_implicit_flow_would_bring_is_refused(place):
    party = place.party()
    departure = party.begin("/")
    query = await place.browse(departure.url)
    with pytest.raises(Refused) as refused:
        await party.finish([*query, ("id_token", "x.y.z")], departure.browser)
    assert refused.value.code == "signin-parameters"


async def test_t43_nobody_at_the_browser_comes_back_as_nobody(place):
    place.provider.at_the_browser = ""
    party = place.party()
    departure = party.begin("/")
    with pytest.raises(Refused) as refused:
        await party.finish(await place.browse(departure.url), departure.browser)
    assert refused.value.code == "signin-declined"


async def test_a_secret_beside_the_certificate_is_sent_and_a_wrong_one_is_refused(place):
    held = place.provider.clients["poterne"]
    place.provider.register(
        LabClient(client_id="poterne", redirect_uri=BACK, certificate=held.certificate, secret=SECRET)
    )
    file = place.folder / "client-secret"
    for text, works in ((SECRET + "\n", True), ("another", False)):
        file.write_text(text)
        file.chmod(0o600)
        party = place.party(client_secret_file=file)
        departure = party.begin("/")
        query = await place.browse(departure.url)
        if works:
            assert (await party.finish(query, departure.browser)).who.subject == PERSON
        else:
            with pytest.raises(Refused) as refused:
                await party.finish(query, departure.browser)
            assert refused.value.code == "signin-code"


async def test_signing_out_leads_to_the_provider_when_it_has_a_page_for_it(place):
    assert place.party(end_session_url="").departure_for_good == ""
    url = place.party().departure_for_good
    assert url == (
        f"{place.provider.issuer}/end_session?client_id=poterne"
        "&post_logout_redirect_uri=https%3A%2F%2Fpoterne.example%2Fconsole%2Flogin"
    )


@pytest.mark.parametrize(
    ("answer_iss", "supported", "code"),
    [
        ("metadata", None, ""),  # RFC 9207 §3: absent is no
        ("metadata", False, ""),
        ("metadata", True, "signin-issuer"),
        ("metadata", "yes", "provider-answer"),
        ("always", None, "signin-issuer"),
        ("always", False, "signin-issuer"),
        ("always", True, "signin-issuer"),
    ],
)
async def test_t43_an_answer_without_iss_is_taken_from_a_provider_alone_that_does_not_say_it_sends_it(
    place, answer_iss, supported, code
):
    place.provider.switches, place.provider.states_support = {Switch.NO_ISS}, supported
    party = place.party(answer_iss=answer_iss)
    departure = party.begin("/")
    query = await place.browse(departure.url)
    assert "iss" not in dict(query)
    if code:
        with pytest.raises((Refused, Unavailable)) as fault:
            await party.finish(query, departure.browser)
        assert fault.value.code == code
    else:
        assert (await party.finish(query, departure.browser)).who.subject == PERSON


@pytest.mark.parametrize("supported", [None, False, True])
async def test_t43_a_wrong_iss_is_refused_whatever_the_metadata_say(place, supported):
    place.provider.switches, place.provider.states_support = {Switch.WRONG_ISS}, supported
    party = place.party()
    departure = party.begin("/")
    with pytest.raises(Refused) as refused:
        await party.finish(await place.browse(departure.url), departure.browser)
    assert refused.value.code == "signin-issuer"


async def test_t43_metadata_are_asked_for_only_when_an_answer_without_iss_came_and_count_only_for_their_issuer(place):
    place.provider.states_support = None
    party = place.party()
    departure = party.begin("/")
    await party.finish(await place.browse(departure.url), departure.browser)
    assert place.provider.counts["/.well-known/openid-configuration"] == 0
    place.provider.switches = {Switch.NO_ISS, Switch.METADATA_OTHER}
    departure = party.begin("/")
    with pytest.raises(Unavailable) as fault:
        await party.finish(await place.browse(departure.url), departure.browser)
    assert (fault.value.code, "provider-metadata" in str(fault.value)) == ("provider-answer", True)
    assert place.provider.counts["/.well-known/openid-configuration"] == 1


@pytest.mark.parametrize(
    ("switch", "code"),
    [
        (Switch.INTROSPECTION_DOWN, "provider-answer"),
        (Switch.INTROSPECTION_HUGE, "provider-answer"),
        (Switch.INTROSPECTION_ELSEWHERE, "provider-answer"),
        (Switch.INTROSPECTION_PAGE, "provider-answer"),
        (Switch.INTROSPECTION_OTHER, "token-disagreed"),
    ],
)
async def test_t44_nobody_signs_in_while_the_provider_does_not_vouch_for_the_token(place, switch, code):
    party = place.party()
    departure = party.begin("/")
    place.provider.switches = {switch}
    with pytest.raises((Refused, Unavailable)) as fault:
        await party.finish(await place.browse(departure.url), departure.browser)
    assert fault.value.code == code


async def test_a_proof_is_asked_for_anew_and_an_old_one_is_none(place):
    party = place.party()
    departure = party.begin("/", anew=True)
    asked = parse_qs(urlsplit(departure.url).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
    arrival = await party.finish(await place.browse(departure.url), departure.browser)
    assert (arrival.is_proof, arrival.who.subject) == (True, PERSON)
    place.provider.switches = {Switch.OLD_PROOF}
    departure = party.begin("/", anew=True)
    with pytest.raises(Refused) as refused:
        await party.finish(await place.browse(departure.url), departure.browser)
    assert refused.value.code == "signin-old-proof"


async def test_doctor_asks_each_provider_for_its_keys(place, tmp_path, monkeypatch):
    said = []
    for name, changes, switches in (
        ("psc", {}, set()),
        ("silent", {}, {Switch.KEYS_DOWN}),
        ("other", {"algorithms": ["RS256"]}, set()),
    ):
        place.provider.switches = switches
        settings = Settings(identity_providers={name: place.settings(**changes)})
        found = await probe(
            Context(settings=settings, store=None, store_fault=None, send_test=False, now=place.clock.now()), name
        )
        said.append((found.verdict, found.cause.values.get("algorithms", ""), found.detail))
    assert said == [
        ("ok", "ES256", ""),
        ("failed", "", "provider-answer: the identity provider's answer cannot be used (HTTP 503)"),
        ("failed", "", ""),
    ]


async def test_ff40_a_new_pair_is_rehearsed_by_a_real_question_to_the_provider(place):
    settings = Settings(identity_providers={"psc": place.settings()})
    call = _call(settings, links(settings)["identity_providers.psc"])
    assert call is not None
    assert await call(place.tls(place.settings())) == "JWKS"
    place.provider.switches = {Switch.KEYS_DOWN}
    with pytest.raises(Unavailable):
        await call(place.tls(place.settings()))


# ── others' libraries ───────────────────────────────────────────────────────────────────────────────────────────


async def test_the_client_of_another_library_goes_through_the_lab_provider(place):
    """Authlib trades a code with PKCE over mutual TLS; PyJWT reads the published keys and the ID token."""

    def session() -> OAuth2Session:
        made = OAuth2Session(
            "poterne",
            redirect_uri=BACK,
            scope="openid",
            code_challenge_method="S256",
            token_endpoint_auth_method="none",
        )
        assert isinstance(made, Session)
        made.verify, made.cert = str(place.pki.ca), (str(place.own.certificate), str(place.own.key))
        made.trust_env = False
        return made

    client, verifier = session(), "v" * 43
    url, state = client.create_authorization_url(
        f"{place.provider.issuer}/authorize", code_verifier=verifier, nonce="n" * 22
    )
    came = dict(await place.browse(url))
    answer = f"{BACK}?code={came['code']}&state={state}"

    def trade() -> dict[str, str]:
        return client.fetch_token(
            f"{place.provider.issuer}/token", authorization_response=answer, code_verifier=verifier, state=state
        )

    given = await asyncio.to_thread(trade)
    published = await asyncio.to_thread(
        lambda: client.get(f"{place.provider.issuer}/jwks", withhold_token=True).json()
    )
    client.close()
    (key,) = pyjwt.PyJWKSet.from_dict(published).keys
    claims = pyjwt.decode(
        given["id_token"], key, algorithms=["ES256"], audience="poterne", issuer=place.provider.issuer
    )
    assert (claims["iss"], claims["sub"], claims["nonce"]) == (place.provider.issuer, PERSON, "n" * 22)


async def test_a_certificate_bound_token_of_the_token_endpoint_is_ours_to_read(place):
    """RFC 8705 end to end: client_credentials over mutual TLS gives a token that opens for that certificate alone."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=place.pki.client(place.peer))) as session,
        session.post(
            f"{place.provider.issuer}/token", data={"grant_type": "client_credentials", "resource": AUDIENCE}
        ) as answer,
    ):
        token = (await answer.json())["access_token"]
    server = place.server(role="gateway-peer", purpose="treatment")
    found = await server.judge(token, der(place.peer))
    assert found.subject.roles == {Role.GATEWAY_PEER}
    assert found.claims.all["cnf"] == {"x5t#S256": thumbprint(der(place.peer))}
    assert await refusal(place, server, token, der(place.thief)) == "token-of-another"
