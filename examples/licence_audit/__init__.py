"""The licence audit: an example to read, and what `firmplan demo` runs; shipped as `firmplan.demo`."""
