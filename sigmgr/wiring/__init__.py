"""The composition root: settings in, running parts out; see ``docs/architecture.md``."""
