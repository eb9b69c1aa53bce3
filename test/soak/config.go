package main

import "fmt"

// The worker types.
const (
	lasting = "lasting" // restarted whenever it ends, and never stopped: it is there from the beginning to the end
	steady  = "steady"  // restarted whenever it ends
	once    = "once"    // never restarted
	probed  = "probed"  // asked whether it lives, restarted on failure
	fresh   = "fresh"   // changed by every reload, which restarts it
	chatty  = "chatty"  // fills its log, and leaves a process behind when it is killed
	broken  = "broken"  // ends before it is ready
	never   = "never"   // is never ready
)

// shares is how the workers are of the types, in percent.
var shares = []struct {
	typ     string
	percent int
}{{lasting, 10}, {steady, 40}, {once, 25}, {probed, 20}, {fresh, 3}, {chatty, 2}}

// entries is the configuration's workers after so many reloads. Waits are short and many
// failures are allowed, so that a worker that is to be restarted always is.
func entries(round int64) string {
	const (
		worker = `"{{.Hive}}", worker, --port, "{{.Port}}", --worker-id, "{{.WorkerID}}"`
		often  = `max: 1000, window: 1s, backoff: 50ms, max_backoff: 500ms`
		chat   = `'while sleep 1; do yes | head -c 20000; done & exec "$@"'`
	)
	return fmt.Sprintf(`
  - {name: lasting, command: [%[1]s], ready: {path: /health}, restart: {policy: always, %[2]s}}
  - {name: steady, command: [%[1]s], ready: {path: /health}, restart: {policy: always, %[2]s}}
  - {name: once, command: [%[1]s], ready: {path: /health}}
  - {name: probed, command: [%[1]s], ready: {path: /health}, live: {interval: 2s}, restart: {policy: on-failure, %[2]s}}
  - {name: fresh, command: [%[1]s], ready: {path: /health}, env: ["ROUND=%[4]d"], reload: restart, restart: {policy: always, %[2]s}}
  - {name: chatty, command: [sh, -c, %[3]s, sh, %[1]s], ready: {path: /health}, restart: {policy: always, %[2]s}}
  - {name: broken, command: [%[1]s, --exit-code, "7"], ready: {path: /health}}
  - {name: never, command: [%[1]s, --unhealthy], ready: {path: /health}}`, worker, often, chat, round)
}

// settings are the other lines of the configuration: what is kept is kept so shortly that
// it is full within the warm-up (see the package comment). Each reload changes one of them.
func settings(round int64, hub string) []string {
	return []string{
		fmt.Sprintf("workers_keep: %ds", 30+round%2),
		"jobs: {retention: 1m, keep: 300}",
		"logs: {max_size: 64KiB, keep: 1, max_total: 1MiB}",
		"backup: {interval: 1m, keep: 1}",
		"audit: {interval: 5s}",
		"models: {endpoint: '" + hub + "'}",
		"log_level: warn",
	}
}

// missing is the type of which most workers are missing, and how many.
func missing(have map[string]int, workers int) (typ string, n int) {
	for _, s := range shares {
		if m := (s.percent*workers+99)/100 - have[s.typ]; m > n {
			typ, n = s.typ, m
		}
	}
	return typ, n
}
