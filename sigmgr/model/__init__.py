"""Values and rules of sigmgr: no I/O, no clock, no randomness, no asyncio.

Every rule takes ``now`` (whole Unix seconds, UTC) and, where chance is wanted, the drawn
number itself. That is what lets ninety days run in a second in the simulation.
"""
