"""Names of the files in a run folder."""

LAST = "last.ckpt"  # the newest whole epoch
BEST = "best.ckpt"  # the best epoch by val mean IoU
METRICS = "metrics.csv"  # a row for each epoch
