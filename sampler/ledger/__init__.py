"""The rows of campaigns on the store.

``rows`` sealed versions and their proof · ``held`` what they say, and the figures made of it · ``acts`` from draft to
draw and from state to state · ``reviews`` what auditors and commission state.
"""
