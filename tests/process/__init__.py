"""Real ``sigmgr`` processes: one that serves, and many that serve together while things break."""
