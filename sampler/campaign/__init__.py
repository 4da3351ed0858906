"""What a campaign of peer audit is and may become. Pure.

``lifecycle`` states of a campaign and of a case, with what guards each step · ``rights`` who may do what ·
``conflict`` who may not see a case · ``terms`` what the frozen protocol says beyond the draw · ``chances`` how
probable each case was · ``drawn`` the cases of a draw · ``results`` the figures of a campaign.
"""
