package main

// targets are the rows of the table. Floors are measured in the same run, so
// that a slow disk is not taken for a slow hive.
var targets = []target{
	{"durable acquire + release, one caller, against 4 bare fdatasyncs (p50)", one("AcquireRelease x-floor"), 1.6, "times", false},
	{"the same by 64 callers: commits per call", one("AcquireRelease64 commits/call"), 1.0 / 16, "commits", false},
	{"the same by 64 callers: rate against one caller", one("AcquireRelease64 x-alone"), 5, "times", true},
	{"acquire with all probes: 1,900 leases held against none", ratio("Acquire/any/leases=1900 ns/op", "Acquire/any/leases=0 ns/op"), 1.5, "times", false},
	{"spawn until the gate has opened, above fork+exec (p50)", difference("SpawnGated p50-ns", "SpawnDirect p50-ns", 1e-6), 2, "ms", false},
	{"durable acceptance of jobs over HTTP, 64 clients, against a bare server with a group commit", ratio("accept-hive jobs/s", "accept-floor jobs/s"), 0.25, "of the rate", true},
	{"the same: latency against the bare server's (p99)", ratio("accept-hive p99-ms", "accept-floor p99-ms"), 4, "times", false},
	{"hive_check over HTTP, 64 clients, each with a worker started and stopped", one("check jobs/s"), 20, "jobs/s", true},
	{"recovery of all workers until the API answers", one("recovery ms"), 250, "ms", false},
	{"the same, against a quarter of them (linear: 4)", ratio("recovery ms", "recovery-quarter ms"), 4.5, "times", false},
	{"hive's CPU while somebody listens to what 1,000 workers use", one("telemetry %"), 10, "% of a core", false},
	{"hive's resident memory, all workers idle", one("rss MB"), 48, "MB", false},
	{"hive's threads, all workers idle", one("threads n"), 16, "threads", false},
}
