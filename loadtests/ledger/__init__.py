"""How fast entries reach the ledger's store, and how long reports over many of them take."""
