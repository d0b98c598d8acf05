"""Tables, figures and words -> one report file. Read `report` first, then `document`."""
