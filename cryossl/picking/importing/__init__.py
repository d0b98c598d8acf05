"""Labels of other programs and their micrographs -> a data set; read `importer` first."""
