"""``poterne manifest``: a manifest made from files, checked against its rules, written in another form.

``folder`` reads DICOM files, ``collection`` makes one study of their headers, ``forms`` knows what each document
form carries, ``documents`` reads and writes files; ``build``, ``checking`` and ``conversion`` are the commands, whose
options stand in ``options``. Nothing here touches the database, the PACS or the index.
"""
