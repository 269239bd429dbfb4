"""The usage ledger: entries in memory that survives this process, and from there into a database, once each."""
