"""Printers of regions: one module a target language, over the loop forms of `ir.region`."""
