"""The bins that the Aerospike backend keeps beside those of the store's logic."""

MAP, PAYLOAD, WRITE_ID, AGE = "~map", "~payload", "~write", "~age"
OURS = frozenset({MAP, PAYLOAD, WRITE_ID})
