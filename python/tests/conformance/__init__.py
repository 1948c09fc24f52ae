"""coremltools' own op tests, run through coremill: the runtime's conformance."""
