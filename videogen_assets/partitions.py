"""What the graphs are partitioned by. Both grow: the sensors add a key for each version and each batch."""

import dagster as dg

model_versions = dg.DynamicPartitionsDefinition(name="model_version")
"""Keys are labels, `videogen-tiny@3`."""

request_batches = dg.DynamicPartitionsDefinition(name="request_batch")
"""Keys are batch ids from the store, `20261123T081500Z-1a2b3c4d`."""
