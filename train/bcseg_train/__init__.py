"""Training, evaluation and figures: reproduces Katar and Yildirim 2023 on BUSI and goes on from there."""
