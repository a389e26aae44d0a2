"""The table of the files of the watched folder, and of what became of them; `orchestration.watching` writes it."""

import dataframely as dy

from assets.stream.contract import utc
from resources.table import Table


class ImportedFiles(dy.Schema):
    """What became of one state of one file of the watched folder. Key: place, size, changed_at, said.

    `status` is imported, known (its content was imported for the same patient before, under whatever name) or failed,
    with `reason`; an imported one has a reason if its content was imported for another patient before. `said` is what
    the folder says of it, as JSON. Of a place the row with the latest `looked_at` counts.
    """

    place = dy.String(nullable=False)
    size = dy.Int64(nullable=False)
    changed_at = utc()
    said = dy.String(nullable=False)
    sha256 = dy.String(nullable=True)
    status = dy.String(nullable=False)
    reason = dy.String(nullable=True)
    format = dy.String(nullable=True)
    events = dy.Int64(nullable=False)
    readings = dy.Int64(nullable=False)
    skipped = dy.Int64(nullable=False)
    rejected = dy.Int64(nullable=False)
    looked_at = utc()
    looked_on = dy.Date(nullable=False)


WATCHED = Table("imports/files", ImportedFiles, partition_by=("looked_on",))
