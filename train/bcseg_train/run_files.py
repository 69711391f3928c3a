"""Names of the files in a run folder."""

LAST = "last.ckpt"  # the newest whole epoch
BEST = "best.ckpt"  # the best epoch by val mean IoU
OPTIONS = "options.json"  # how it was started, and with what
SPLIT = "split.csv"  # its training and val images
METRICS = "metrics.csv"  # a row for each epoch
