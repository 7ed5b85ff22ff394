"""The stages in order, for a whole shoot: decide, do, resume, assemble.

plan.py           decides from receipts alone what a scene still needs
scene.py          does one stage of one scene and writes its receipt
pool.py           runs the stages of all scenes in worker processes
cluster.py        runs them on the workers of a Dask cluster
cluster_worker.py is what happens on such a worker
place.py          chooses between pool.py and cluster.py
assemble.py       writes dataset.json, scenes.parquet and SHA256SUMS from the receipts
journal.py        remembers the shoot, the options and the failures
claim.py          keeps a build from touching what is not its own
machine.py        knows what cores and memory are free, in a container too
usage.py          limits the memory of a stage, and measures what it cost
build_dataset.py  ties them together
state.py          tells how far a dataset is
pair.py           loads one pair by hand
"""

from defocus_ds.pipeline.build_dataset import BuildReport, build
from defocus_ds.pipeline.plan import STAGES
from defocus_ds.pipeline.pool import StageEvent, auto_jobs
from defocus_ds.pipeline.state import DatasetStatus, status

__all__ = [
    "STAGES",
    "BuildReport",
    "DatasetStatus",
    "StageEvent",
    "auto_jobs",
    "build",
    "status",
]
