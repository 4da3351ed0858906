"""The index node: an XDS.b registry and repository on the house's own Store.

It is the embedded default of the demo, the index of a hospital group and the counterpart of the tests. It does
not keep Folders, on-demand documents or metadata updates other than a withdrawal (ITI-57), and says so when asked.
"""
