"""The way of the audit trail to an audit repository outside (IHE ITI-20): ``rows`` how far it has it · ``syslog`` and
``fhir`` the two ways to say it · ``delivery`` the jobs that do, through the outbox."""
