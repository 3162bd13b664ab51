"""The budgets: what sigmgr costs, each as a ratio against something bare in the same run.

``python -m benchmarks [NAME ...] [--five-million] [--once] [--list]``

``python -m benchmarks.latency`` prints how long gets take while a part hangs or is away.

Every row says how far sigmgr is from the barest program that does the same work on the same
machine in the same minute, so the figures hold on a laptop and on a busy build machine alike.
A ratio of 1 means as good as bare, and larger is better in every row. The run fails where a
ratio is under its floor, judged on the median of three runs (the third only where the first
two differ in that). The two sides take turns (ours, bare, ours, bare ...), and medians are
compared.

Servers (PostgreSQL with fsync, Valkey) and helpers are started here, listen on loopback only,
and end with the run, whatever way it ends.
"""
