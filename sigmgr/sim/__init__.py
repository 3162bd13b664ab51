"""The emulated cloud and its clients: for the demo, the simulation and the tests."""
