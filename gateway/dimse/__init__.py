"""The DICOM door: what peers send or ask by DIMSE (PS3.7, PS3.8), accepted by an engine of our own.

The core reads and writes bytes and knows no socket: ``pdu`` (framing), ``associate`` (A-ASSOCIATE), ``command``
(command sets), ``states`` (PS3.8 table 9-10), ``negotiation`` (presentation contexts), ``protocol`` (all of it
together). ``association`` and ``listener`` are the asyncio shell, ``services`` what a service must offer, ``storage``
and ``inbox`` the one that keeps objects.

Data sets are passed through, never decoded: ``security.parse.dataset`` watches them go by.
"""
