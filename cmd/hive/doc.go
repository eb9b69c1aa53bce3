// Command hive is the daemon: it reads its configuration, listens, opens the
// state, recovers, and serves until it is told to stop.
//
// Model: this package only wires. What was configured is decided in package
// config, what happens to workers in package hive, what is answered in package
// httpapi. The order is: sockets of the service manager, configuration, reaper, worker
// types, TCP listeners (a port that is taken is found before anything is touched), data
// directory, token, unix sockets, state, recovery while the API answers 503, the banner,
// service. At the end: API, workers if that is wanted, state.
//
// How hive is reached (listeners.go): by the addresses of listen, by [::1] where
// localhost leads to hive by IPv4, by what the service manager has passed (LISTEN_FDS), and
// always by its control socket, which of all these nobody else can take.
//
// hive is the reaper of its workers' descendants (PR_SET_CHILD_SUBREAPER, prctl(2)):
// what a worker's process leaves behind becomes hive's child, and hive takes it
// away when it ends. That also holds as PID 1 of a container. When hive has
// ended they go to the next reaper above it, init as a rule.
//
// On SIGHUP and POST /v1/reload the configuration is loaded anew, from the file of the
// start, and handed to the hive (reload.go); a mistake changes nothing. What of it needs a start is
// compared with the configuration of the start, not with that of the last reload.
//
// A service manager (NOTIFY_SOCKET) is told how far hive is (notify.go): READY=1 when
// it serves, RELOADING=1 and READY=1 around a reload, STOPPING=1, and more time is asked
// for during a long start or stop. Its watchdog is fed by the main loop after
// Hive.Alive has come to an end (pulse.go).
//
// Guarantees: exit code 0 after an orderly stop, 1 when something failed, 2 for
// wrong flags or configuration; an error is one line on stderr. What failed may
// be a worker that could not be stopped wholly, or an end that could not be
// recorded; the next start finds out what is true. The banner is on stdout, the
// log on stderr. Stopping hive leaves the workers running unless it was told
// otherwise.
//
// `hive worker` is the reference worker. It is recognised before flags and
// configuration are looked at: it is started 1,920 times in a test, and what it
// does must not depend on the HIVE_* variables around it.
//
// Caveats: a terminal that is closed sends SIGHUP, which does not end hive. The
// daemon is for Linux; elsewhere it builds and refuses to start.
package main
