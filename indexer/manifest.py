"""``StudyManifest``: the frozen description of one study at one version, the source of every document form.

Invariants:

* built from identifiers and codes only, never from a Dataset;
* two manifests with the same content have the same ``content_hash``, whatever their version or the moment
  they were made (I6);
* ``unique_id`` derives from (tenant, study, version, content hash): the same content never gets a second id
  by a retry, another content never gets the same (I5, FF-17).
"""
