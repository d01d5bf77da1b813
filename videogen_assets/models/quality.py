"""All gates of a version, measured once, kept as evidence and written to MLflow."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.artifacts import ArtifactsResource
from resources.engines import EnginesResource
from resources.media import MediaResource
from resources.registry import RegistryResource
from resources.store import StoreResource
from videogen.evaluation import KIND as EVALUATION_KIND
from videogen.evaluation import read_evaluation
from videogen.registry import ModelRegistry
from videogen_assets.checks import gate, verdict
from videogen_assets.jobs import MODEL_GROUP
from videogen_assets.labels import parse_label
from videogen_assets.models.candidates import Contest, go_on_with_contest
from videogen_assets.models.evaluation import EVALUATIONS, RIVAL, evaluation_videos
from videogen_assets.models.judging import Judge, Judged
from videogen_assets.models.targets import proofs_of
from videogen_assets.models.warm_up import warm_ups_of
from videogen_assets.partitions import model_versions
from videogen_assets.placement import ON_DEVICE, OWNERS
from videogen_assets.references import latest_json, reference
from videogen_assets.refusals import PATIENCE, final_refusals
from videogen_assets.shown import Metadata, age, chart, links, table
