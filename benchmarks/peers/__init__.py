"""Programs that time one library each: a case as JSON a line in, its times as JSON a line out."""
