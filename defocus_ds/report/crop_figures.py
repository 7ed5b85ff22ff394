"""What the crops of a pair say of it: their mean sharpness."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from defocus_ds.frames import BLURRED_LEVELS, Pair

__all__ = ["mean_q"]


def mean_q(dataset: Path) -> dict[Pair, tuple[float, float]]:
    """Mean Q of the sharp and of the blurred crops, for every pair that has crops.

    Args:
        dataset: a built dataset; levels without ``crops/<level>/manifest.parquet`` are left out.

    Returns:
        Pair -> (Q of its sharp crops, Q of its blurred crops).

    Raises:
        DatasetError: a manifest of crops is damaged.
    """
    import pyarrow as pa

    from defocus_ds.dataset.shards import MANIFEST_NAME, MANIFEST_SCHEMA
    from defocus_ds.dataset.tables import open_table, read_group

    wanted = pa.schema([MANIFEST_SCHEMA.field(n) for n in ("scene", "q_sharp", "q_blurred")])
    sums: dict[Pair, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for level in BLURRED_LEVELS:
        path = dataset / "crops" / level / MANIFEST_NAME
        if not path.is_file():
            continue
        with open_table(path, MANIFEST_SCHEMA) as file:
            for group in range(file.metadata.num_row_groups):
                table = read_group(file, group, path=path, schema=wanted)
                means = table.group_by("scene").aggregate(
                    [("q_sharp", "sum"), ("q_blurred", "sum"), ("q_sharp", "count")]
                )
                for row in means.to_pylist():
                    total = sums[Pair(row["scene"], level)]
                    for index, name in enumerate(("q_sharp_sum", "q_blurred_sum", "q_sharp_count")):
                        total[index] += row[name]
    return {
        pair: (sharp / count, blurred / count) for pair, (sharp, blurred, count) in sums.items()
    }
