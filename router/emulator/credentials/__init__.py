"""How a fake cloud tells whether a request is from who it says: keys, tokens it issued itself, signatures.

Signatures are worked out here anew, from the clouds' published descriptions, with the standard library and
`cryptography`: the router signs with the clouds' own packages, so a slip on either side shows.
"""
