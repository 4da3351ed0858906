"""The policy and what stands it in front of every door."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, unit

_POLICY = "security/policy.py"
_GATE = "security/gatekeeper.py"
_REFUSALS = "security/audit/refusals.py"
_UNIT = "policy"

DEFECTS = (
    access(
        "action-without-a-rule-allowed",
        _POLICY,
        "        return Deny(reason=Reason.NO_RULE)\n    if zone",
        "        return Allow(role=None)\n    if zone",
        unit(_UNIT, "test_t46_an_action_without_a_rule_is_denied_to_everybody"),
    ),
    access(
        "zone-of-an-action-not-asked",
        _POLICY,
        "    if zone not in rule.zones:",
        "    if not rule.zones:",
        unit(_UNIT, "test_t63_no_action_of_the_console_is_possible_in_another_zone"),
    ),
    access(
        "exam-of-another-legal-entity-shown",
        _POLICY,
        "    if subject.tenant and resource.tenant and subject.tenant != resource.tenant:",
        "    if subject.tenant and not resource.tenant:",
        unit(_UNIT, "test_t28_another_legal_entitys_exam_is_denied_and_the_own_one_is_not"),
    ),
    access(
        "one-person-counts-as-two",
        _POLICY,
        'if rule.two_persons and subject.seconded_by in {"", subject.name}:',
        'if rule.two_persons and subject.seconded_by == "":',
        unit(_UNIT, "test_t46_export_of_keys_unpublish_all_and_re_identification_take_two_persons"),
    ),
    access(
        "sensitive-act-without-a-fresh-proof",
        _POLICY,
        "    if rule.step_up and not subject.is_fresh:",
        "    if rule.step_up and not subject.name:",
        unit(_UNIT, "test_t46_export_of_keys_unpublish_all_and_re_identification_take_two_persons"),
    ),
    access(
        "broken-glass-opens-to-every-role",
        _POLICY,
        "    wanted = rule.glass if by_glass else rule.roles\n",
        "    wanted = frozenset(Role) if by_glass else rule.roles\n",
        unit(_UNIT, "test_t47_breaking_the_glass_opens_identities_to_an_operator_and_nothing_else"),
    ),
    access(
        "operator-releases-identities",
        _POLICY,
        "Action.EXAM_RELEASE: _rule(Zone.OPS, roles=(Role.IDENTITY_OFFICER,)),",
        "Action.EXAM_RELEASE: _rule(Zone.OPS, roles=(Role.IDENTITY_OFFICER, Role.OPERATOR)),",
        unit(_UNIT, "test_t46_each_action_of_the_console_is_for_these_roles_alone"),
    ),
    access(
        "unstated-route-served",
        _GATE,
        "if action else Reason.NO_RULE",
        "if action else Allow(role=None)",
        integration("gatekeeper", "test_t46_a_route_that_nobody_stated_answers_nobody_not_even_this_machine"),
    ),
    access(
        "denied-request-served",
        _GATE,
        "        if isinstance(judged, Allow):\n            return await handler(request)",
        "        if judged:\n            return await handler(request)",
        integration("gatekeeper", "test_t46_what_is_not_public_answers_nobody_on_the_ops_listener"),
    ),
    access(
        "dimse-service-for-any-peer",
        "gateway/dimse/access.py",
        "    return Status.SUCCESS if isinstance(judged, Allow) else Status.NOT_AUTHORIZED",
        "    return Status.SUCCESS if judged else Status.NOT_AUTHORIZED",
        unit(_UNIT, "test_t46_a_pacs_peer_may_ask_for_every_service_and_a_peer_without_the_role_for_none"),
    ),
    access(
        "listener-on-every-interface",
        "security/listener.py",
        "        if interface:\n            opened",
        "        if interface and is_v6:\n            opened",
        integration("zones", "test_t63_each_zone_reaches_its_own_listeners_and_no_other_at_whatever_address"),
    ),
    access(
        "interface-of-the-console-not-applied",
        "gateway/wiring.py",
        "            open_at = listening(host, port, interface=ops.interface)",
        "            open_at = listening(host, port)",
        integration("zones", "test_t63_each_zone_reaches_its_own_listeners_and_no_other_at_whatever_address"),
    ),
    access(
        "interface-of-the-dicom-listener-not-applied",
        "gateway/dimse/door.py",
        "            interface=settings.interface,\n",
        "",
        integration("zones", "test_t63_each_zone_reaches_its_own_listeners_and_no_other_at_whatever_address"),
    ),
    access(
        "interface-of-the-mllp-listener-not-applied",
        "gateway/wiring.py",
        "                interface=hl7.interface,\n",
        "",
        integration("zones", "test_t63_each_zone_reaches_its_own_listeners_and_no_other_at_whatever_address"),
    ),
    access(
        "interface-of-the-index-node-not-applied",
        "gateway/wiring.py",
        "                interface=self._settings.interface,\n",
        "",
        integration("zones", "test_t63_each_zone_reaches_its_own_listeners_and_no_other_at_whatever_address"),
    ),
    access(
        "refusals-told-one-by-one",
        _REFUSALS,
        "if ends or one not in self._told})",
        "if count or one not in self._told})",
        integration(
            "refusals",
            "test_t33_the_first_refusal_is_recorded_at_once_and_the_same_again_once_a_minute_with_its_number",
        ),
    ),
    access(
        "refusals-of-many-addresses-told-apart",
        _REFUSALS,
        "        if refusal not in apart and len(apart) >= TOLD_MAX:",
        "        if refusal not in apart and len(apart) >= 1_000 * TOLD_MAX:",
        integration(
            "refusals", "test_t33_a_flood_from_a_hundred_thousand_addresses_is_told_in_few_records_and_counted_whole"
        ),
    ),
    access(
        "refusals-lost-when-the-disk-is-full",
        _REFUSALS,
        "            self._counts += due\n",
        "",
        integration("refusals", "test_what_cannot_be_recorded_now_is_recorded_later"),
    ),
    access(
        "refused-request-not-told",
        _GATE,
        "        tell(Refusal(",
        "        untold(Refusal(",
        integration("refusals", "test_each_refusal_of_the_policy_over_http_is_told_with_who_where_and_what"),
    ),
    access(
        "refused-mllp-connection-not-told",
        "gateway/hl7/mllp.py",
        "        self._tell(\n",
        "        untold(\n",
        integration("refusals", "test_a_refused_mllp_connection_is_told_by_reason_and_legal_entity"),
    ),
    access(
        "refusals-of-the-console-not-told",
        "gateway/wiring.py",
        "            clock=self._clock,\n            tell=tell,\n",
        "            clock=self._clock,\n",
        integration("refusals", "test_a_running_gateway_keeps_the_refusals_of_its_doors_in_its_trail"),
    ),
    access(
        "refused-token-not-told",
        "gateway/providers/door.py",
        "            tell(\n                Refusal(\n                    zone=zone,\n                    reason=fault.code,",
        "            untold(\n                Refusal(\n                    zone=zone,\n                    reason=fault.code,",
        integration(
            "identity_provider",
            "test_what_the_token_door_refuses_is_told_to_the_trail_with_the_certificate_and_no_token",
        ),
    ),
    access(
        "hl7-from-any-network",
        "gateway/hl7/mllp.py",
        " or not self._senders.admit(address)",
        "",
        integration("gatekeeper", "test_t63_an_mllp_connection_from_where_nobody_may_send_is_closed_unread"),
    ),
)
