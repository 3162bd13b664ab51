"""Contract suites: one set of tests over every implementation of a port."""
