"""Values and rules: no I/O, no clock, no randomness, no asyncio.

Every rule takes ``now`` (whole Unix seconds, UTC) and, where a draw is wanted, the drawn number. So
a simulation of ninety days runs in a second.
"""
