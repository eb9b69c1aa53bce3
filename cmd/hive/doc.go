// Command hive is the daemon: it reads its configuration, listens, opens the state,
// recovers, and serves until it is told to stop. Model: this package only wires.
// Configuration is package config, workers are package hive, the API is package httpapi.
// The order is: sockets of the service manager, configuration, reaper, worker types, TCP
// listeners (a port that is taken is found before anything is touched), data directory,
// token, unix sockets, state, recovery while the API answers 503, the banner, service. At
// shutdown: API, workers if that is wanted, state. Listeners (listeners.go): the addresses
// of listen, [::1] where localhost leads to hive by IPv4, what the service manager has
// passed (LISTEN_FDS), and always the control socket, the only one that nobody else can
// take.
//
// hive is the reaper of its workers' descendants (PR_SET_CHILD_SUBREAPER, prctl(2)):
// orphaned descendants of a worker become hive's children, and hive reaps them when they
// end. That also holds as PID 1 of a container. When hive has ended they go to the next
// reaper above it, init as a rule. On SIGHUP and POST /v1/reload the configuration is
// loaded again, from the file of the start, and passed to the hive (reload.go); an error
// changes nothing. What of it needs a start is compared with the configuration of the
// start, not with that of the last reload. A service manager (NOTIFY_SOCKET) is notified
// (notify.go): READY=1 when hive serves, RELOADING=1 and READY=1 around a reload,
// STOPPING=1, and requests for more time during a long start or stop. The main loop
// notifies its watchdog after each health check that succeeded (watchdog.go, Hive.Alive).
//
// Guarantees: exit code 0 after an orderly stop, 1 when something failed, 2 for wrong flags
// or configuration; an error is one line on stderr. A failure may be a worker that could
// not be stopped completely, or an end that could not be recorded; the next start finds out
// the truth. The banner is on stdout, the log on stderr. Stopping hive leaves the workers
// running unless it was told otherwise. `hive worker` is the reference worker. It is
// recognised before flags and configuration are read: it is started 1,920 times in a test,
// and must not depend on HIVE_* variables in its environment.
//
// Caveats: a terminal that is closed sends SIGHUP, which does not end hive. The
// daemon is for Linux; elsewhere it builds and refuses to start.
package main
