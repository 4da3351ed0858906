"""The flow matrix: every listener and every call of a configuration, with what proves who is there."""

from __future__ import annotations

import json

from gateway.flows import flows, rules, run
from gateway.i18n import words
from gateway.settings import load
from tests.unit.configuration import changed, write

_LAN = 'listen = "192.0.2.1:2575"\nsegment = "trusted-lan"\nnetworks = ["192.0.2.0/24"]'


def test_t63_every_listener_and_every_call_has_its_line(tmp_path):
    settings = load(write(tmp_path), {})
    found = {one.key: one for one in flows(settings)}
    assert {"ops.listen", "tenants.fantome.hl7.listen", "tenants.fantome.index"} <= set(found)
    ops = found["ops.listen"]
    assert (ops.zone, ops.to, ops.port, ops.protocol) == ("ops", "127.0.0.1", 9090, "HTTP (this machine)")
    assert ops.authentication == "account: password and code"
    index = found["tenants.fantome.index"]
    assert (index.zone, index.opened_by, index.authentication) == ("peers", "poterne", "client certificate")
    assert len([key for key in found if ".pacs." in key]) == len(settings.tenants["fantome"].pacs)


def test_a_sender_beyond_this_machine_stands_with_its_network_and_segment(tmp_path):
    settings = load(write(tmp_path, changed('listen = "127.0.0.1:2575"', _LAN)), {})
    (hl7,) = [one for one in flows(settings) if one.protocol == "MLLP"]
    assert (hl7.opened_by, hl7.to, hl7.port) == ("RIS (192.0.2.0/24)", "192.0.2.1", 2575)
    assert hl7.authentication == "network address, segment trusted-lan"


def test_t63_a_listener_is_told_with_the_interface_it_is_bound_to(tmp_path):
    text = changed('listen = "127.0.0.1:2575"', _LAN + '\ninterface = "eth1"')
    found = {one.key: one.interface for one in flows(load(write(tmp_path, text), {}))}
    assert found["tenants.fantome.hl7.listen"] == "eth1"
    assert {key for key, interface in found.items() if interface} == {"tenants.fantome.hl7.listen"}


def test_t63_the_rules_of_the_firewall_hold_each_listener_that_others_reach(tmp_path):
    text = changed('listen = "127.0.0.1:2575"', _LAN + '\ninterface = "eth1"')
    assert (
        rules(load(write(tmp_path, text), {}))
        == """\
table inet poterne {
  chain zones {
    type filter hook input priority filter; policy accept;
    iifname "lo" accept
    ip daddr 192.0.2.1 tcp dport 2575 fib daddr . iif type != local drop
    ip daddr 192.0.2.1 tcp dport 2575 iifname != "eth1" drop
  }
}
"""
    )


def test_what_is_off_has_no_line(tmp_path):
    text = changed('listen = "127.0.0.1:9090"', "").replace('listen = "127.0.0.1:2575"', "")
    opened = [one.key for one in flows(load(write(tmp_path, text), {})) if one.opened_by != "poterne"]
    assert opened == ["index_node.listen"]


def test_the_matrix_is_printed_as_columns_and_as_json(tmp_path, capsys):
    settings = load(write(tmp_path), {})
    assert run(settings, words("fr"), as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["key"] for row in printed] == [one.key for one in flows(settings)]
    assert run(settings, words("fr"), as_json=False) == 0
    assert "not-a-real-password" not in capsys.readouterr().out
