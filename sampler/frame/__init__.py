"""The frame of a peer audit: from what the gateway knows to the list that is committed, every omission counted. Pure.

``rows`` what is known of exams, requests and performed steps · ``strata`` which stratum a row belongs to, and small
ones merged before anything is committed · ``building`` the frame, what was left out and why, the links that never
leave the site · ``counts`` the frame held against RIS, PACS, modalities and index, every difference named.
"""
