"""Names that PyTorch programs ask for and that flambeau itself has no use for.

The module ``a_b`` stands in for ``torch.a.b``. Names that flambeau has too are never taken from
here. Asking whether something is available is answered truly (mostly with no); what would need the
missing thing raises, and the error names it.
"""
