package main

import "fmt"

// targets are the rows of the table. Floors are measured in the same run, so
// that a slow disk is not taken for a slow hive.
var targets = []target{
	{"spawn until the program executes, above fork and exec (p50)", difference("SpawnGated p50-ns", "SpawnDirect p50-ns", 1e-6), 0.5, "ms", false},
	{"spawn until ready, against fork and exec until the first 200 (p50)", ratio("spawn p50-ms", "spawn-floor p50-ms"), 1.25, "times", false},
	{"stop, against kill and wait (p50)", ratio("stop p50-ms", "stop-floor p50-ms"), 2.5, "times", false},
	{"100 workers until all answer, against a bare loop", ratio("crowd s", "crowd-floor s"), 2, "times", false},
	against("process-compose", 100, "s", 0.8), against("process-compose", 200, "s", 0.8), against("process-compose", 1000, "s", 0.8),
	against("process-compose", 1000, "cpu-s", 1),
	against("supervisord", 100, "s", 0.8), against("supervisord", 1000, "s", 0.8), against("supervisord", 1000, "cpu-s", 1),
	against("s6", 100, "s", 2), against("s6", 1000, "s", 2),
	{"hive's CPU for each start of these", one("crowd cpu-ms"), 5, "ms", false},
	{"hive's CPU for each stop of these", one("crowd-stop cpu-ms"), 3, "ms", false},
	{"a spawn beside all other workers, against the first (p50)", ratio("late-spawn p50-ms", "spawn p50-ms"), 1.2, "times", false},
	{"a stop beside all other workers, against the first (p50)", ratio("late-stop p50-ms", "stop p50-ms"), 1.1, "times", false},
	{"stop of all workers", one("stop-all s"), 6, "s", false},
	{"without cgroups: hive's CPU for each of 100 stops", one("plain-crowd-stop cpu-ms"), 6, "ms", false},
	{"the same: a stop beside all other workers, against the first (p50)", ratio("plain-late-stop p50-ms", "plain-stop p50-ms"), 1.5, "times", false},
	{"the same: stop of all workers", one("plain-stop-all s"), 20, "s", false},
	{"hive's CPU for the 10,000th start and stop, against the first", one("churn-cpu x"), 1.05, "times", false},
	{"hive's own memory after them, against after the first", one("churn-memory x"), 1.2, "times", false},
	{"start of hive with the file that they leave, against an empty one", ratio("churn-start ms", "empty-start ms"), 1.3, "times", false},
	{"start of hive with a file of 200 MB, against an empty one", ratio("big-start ms", "empty-start ms"), 1.5, "times", false},
	{"db check of it, against a copy of it", ratio("big-check s", "big-copy s"), 1, "times", false},
	{"db backup of it, against a copy and a check", func(r results) (float64, bool) {
		v, ok := r["big-backup s"]
		return v / (r["big-copy s"] + r["big-check s"]), ok
	}, 1.2, "times", false},
	{"one job with 1,000 listeners: an event is delivered (p99)", one("listeners p99-ms"), 80, "ms", false},
	{"the same: hive's CPU for a delivery", one("listeners cpu-us"), 40, "us", false},
	{"a lease acquired and released over HTTP: hive's CPU", one("lease cpu-ms"), 1, "ms", false},
	{"start of hive with an empty file until healthy", one("empty-start ms"), 100, "ms", false},
	{"durable acquire and release, one caller, against 4 bare fdatasyncs (p50)", one("AcquireRelease x-floor"), 1.3, "times", false},
	{"the same by 64 callers: commits per call", one("AcquireRelease64 commits/call"), 1.0 / 16, "commits", false},
	{"the same by 64 callers: rate against one caller", one("AcquireRelease64 x-alone"), 5, "times", true},
	{"acquire with all probes: 1,900 leases held against none", ratio("Acquire/any/leases=1900 ns/op", "Acquire/any/leases=0 ns/op"), 1.5, "times", false},
	{"durable acceptance of jobs, 64 clients, against a bare group commit", ratio("accept-hive jobs/s", "accept-floor jobs/s"), 0.75, "of the rate", true},
	{"the same: latency against the bare server's (p99)", ratio("accept-hive p99-ms", "accept-floor p99-ms"), 4, "times", false},
	{"hive_check over HTTP, 64 clients: a worker started and stopped", one("check jobs/s"), 200, "jobs/s", true},
	{"recovery of all workers until the API answers", one("recovery ms"), 150, "ms", false},
	{"the same, against a quarter of them (linear: 4)", ratio("recovery ms", "recovery-quarter ms"), 4.2, "times", false},
	{"hive's CPU while somebody listens to what 1,000 workers use", one("telemetry %"), 10, "% of a core", false},
	{"hive's CPU, all workers idle", one("idle %"), 0.5, "% of a core", false},
	{"hive's resident memory, all workers idle", one("rss MB"), 40, "MB", false},
	{"hive's threads, all workers idle", one("threads n"), 12, "threads", false},
}

// against is hive with n workers beside a peer with as many.
func against(name string, n int, unit string, limit float64) target {
	what := map[string]string{"s": "until all answer", "cpu-s": "the supervisor's CPU for that"}[unit]
	return target{fmt.Sprintf("%d workers, %s, against %s", n, what, name), ratio(crowdKey("hive-"+name, n, unit), crowdKey(name, n, unit)), limit, "times", false}
}
