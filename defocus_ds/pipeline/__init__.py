"""The stages in order, for a whole shoot: decide, do, resume, assemble.

plan.py      decides from receipts alone what a scene still needs
scene.py     does one stage of one scene and writes its receipt
pool.py      runs the stages of all scenes in worker processes
assemble.py  writes dataset.json, scenes.parquet and SHA256SUMS from the receipts
build.py     ties them together, and tells how far a dataset is
"""

from defocus_ds.pipeline.build_dataset import BuildReport, DatasetStatus, build, status
from defocus_ds.pipeline.plan import STAGES
from defocus_ds.pipeline.pool import StageEvent, auto_jobs

__all__ = [
    "STAGES",
    "BuildReport",
    "DatasetStatus",
    "StageEvent",
    "auto_jobs",
    "build",
    "status",
]
