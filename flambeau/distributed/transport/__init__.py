"""How ranks reach each other: one module a transport, all with the interface of `base`."""
