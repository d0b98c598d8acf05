"""Public data sets: downloaded, resumed where a download stopped, unpacked safely."""
