"""What the sensors launch: everything for one model version, everything for one batch."""

import dagster as dg

ASKED_TAG = "videogen/asked"
"""On a run: which asking of a person it was launched for."""
MODEL_GROUP = "model_lifecycle"
BATCH_GROUP = "batch_lane"

model_lifecycle = dg.define_asset_job(
    "model_lifecycle",
    selection=dg.AssetSelection.groups(MODEL_GROUP),
    tags={"dagster/max_retries": "1", "dagster/retry_strategy": "ALL_STEPS"},  # if the process died; work is reused
    description="Pulls, compiles, warms and measures one model version, and promotes it or says why not.",
)

batch_generation = dg.define_asset_job(
    "batch_generation",
    selection=dg.AssetSelection.groups(BATCH_GROUP),
    description="Answers the requests of one sealed batch.",
)
