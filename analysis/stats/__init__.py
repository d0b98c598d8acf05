"""Tests, effect sizes and intervals over seeds, sources and micrographs. Read `contrasts` first."""
