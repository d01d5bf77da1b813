"""The one place that puts everything together. Lazy, and light: nothing here imports what a model needs to run."""

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Assets, checks, jobs, sensors and resources of the code location `videogen`."""
    from resources.artifacts import ArtifactsResource
    from resources.engines import EnginesResource
    from resources.gpu import DeviceResource
    from resources.media import MediaResource
    from resources.registry import RegistryResource
    from resources.service import ServiceResource
    from resources.store import StoreResource
    from sensors.failed_runs import cancelled_batch_runs, failed_batch_runs
    from sensors.model_versions import new_model_versions
    from sensors.refused_versions import refused_versions
    from sensors.requests import waiting_requests
    from videogen_assets import upkeep
    from videogen_assets.batches import batch, videos
    from videogen_assets.batches import quality as batch_quality
    from videogen_assets.jobs import batch_generation, model_lifecycle
    from videogen_assets.models import engine, evaluation, graph, promotion, warm_up, weights
    from videogen_assets.models import quality as model_quality

    modules = (
        weights,
        graph,
        engine,
        warm_up,
        evaluation,
        model_quality,
        promotion,
        batch,
        videos,
        batch_quality,
        upkeep,
    )
    return dg.Definitions(
        assets=dg.load_assets_from_modules(modules),
        asset_checks=dg.load_asset_checks_from_modules(modules),
        jobs=[model_lifecycle, batch_generation, promotion.rollback, upkeep.upkeep],
        schedules=[upkeep.hourly_upkeep],
        sensors=[new_model_versions, waiting_requests, failed_batch_runs, cancelled_batch_runs, refused_versions],
        resources={
            "artifacts": ArtifactsResource(),
            "device": DeviceResource(),
            "engines": EnginesResource(),
            "media": MediaResource(),
            "registry": RegistryResource(),
            "service": ServiceResource(),
            "store": StoreResource(),
        },
        # One process per run: an engine is loaded once and shared by the assets and checks of the run.
        executor=dg.in_process_executor,
    )
