"""Does what an owner of a table does to it with deltalake: compaction, vacuum, a checkpoint. Usage: maintain.py TABLE"""
import sys

import deltalake

table = deltalake.DeltaTable(sys.argv[1])
before = len(table.file_uris())
table.optimize.compact()
assert len(table.file_uris()) < before
table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
table.create_checkpoint()
