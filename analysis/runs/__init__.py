"""From the tracking store to one tidy table and its arms. Read `tracked`, `tidy`, then `arms`."""
