"""Hash trees over the records of partitions (SOSP 2007, §4.7)."""
