package main

// targets are the rows of the table. Floors are measured in the same run, so
// that a slow disk does not look like a slow hive.
var targets = []target{
	{"recovery of all workers until the API answers", one("recovery ms"), 250, "ms", false},
	{"the same, against a quarter of them (linear: 4)", ratio("recovery ms", "recovery-quarter ms"), 4.5, "times", false},
	{"hive's resident memory, all workers idle", one("rss MB"), 48, "MB", false},
	{"hive's threads, all workers idle", one("threads n"), 16, "threads", false},
}
