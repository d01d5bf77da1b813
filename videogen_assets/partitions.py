"""What the graphs are partitioned by. Both grow: the sensors add a key for each version and each batch."""

import dagster as dg

PARTITION_TAG = "dagster/partition"
"""Under which Dagster writes a run's partition key on it."""

model_versions = dg.DynamicPartitionsDefinition(name="model_version")
"""Keys are labels, `videogen-tiny@3`."""

request_batches = dg.DynamicPartitionsDefinition(name="request_batch")
"""Keys are batch ids from the store, `20261123T081500Z-1a2b3c4d`."""
