"""``poterne certs keys`` on a running gateway, with PACS and index beside it; then killed and started again."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from gateway.lab.site import Site
from security.secrets import previous_kek_file, read_kek


@pytest.mark.timeout(400)
async def test_the_key_rotates_while_the_gateway_runs_and_a_restart_needs_the_new_one_alone(tmp_path: Path) -> None:
    async with Site(tmp_path) as site:
        await site.start_pacs(prefer_orthanc=False)
        await site.start_index()
        gateway = await site.start_gateway({})
        file = tmp_path / "gateway.kek"
        old = read_kek(file)
        code, said = await site.command("certs", "keys", "rotate", "--json")
        assert code == 0, said
        assert json.loads(said)["wrapped"] >= 4
        assert read_kek(file) != old
        code, said = await site.command("certs", "keys", "renew", "site", "--json")
        assert (code, json.loads(said)) == (0, {"tenant": "site", "key": 2})
        code, said = await site.command("certs", "keys", "forget", "--json")
        assert code == 0, said
        assert not previous_kek_file(file).exists()
        await gateway.end(signal.SIGKILL)
        await site.start_gateway({})
        code, said = await site.command("certs", "keys", "show", "--json")
        shown = json.loads(said)
        assert (code, shown["previous"], shown["tenants"]["site"]["keys"]) == (0, 0, 2)
        code, said = await site.command("certs", "keys", "erase", "site", "--reason", "a try that must fail")
        assert code == 2
        assert "site" in said or "configur" in said
