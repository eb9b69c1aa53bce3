// Package client is the Go client of hive's HTTP API, on the shapes of
// package wire. hivectl is written with it and with nothing else of hive, so
// that it builds on every system.
//
// Model: a Client is an address, or several of which the first that answers is the
// hive's, and a token. Each method is one request, bounded in time and in the size of
// its answer. What the server refuses is an *Error with the problem's code; a server
// that cannot be talked to is an *UnreachableError. Follow is the one method that
// keeps trying: it reads a job's events over as many connections as it takes, and
// resumes each time after the last event it has handed over, so that a watcher
// outlives a restart of the daemon.
//
// Guarantees: an event is handed over once and in order. No request that may
// have reached the server is sent twice, but for a submission with an idempotency
// key, which is one job however often it is sent; a refusal because of a running
// recovery is repeated, because the server says that it did nothing.
// Redirects are not followed: a hive sends none on these routes, so whoever
// does is not a hive, and the token would go to a stranger.
// Nor does the token go to whoever has a hive's port while the hive is down: on Linux the
// listener of a port of this machine is looked at before and after connecting to it
// (guard), and the peer of a unix socket is asked for (SO_PEERCRED). With https the
// certificate proves as much, and nobody is looked at.
//
// Caveats: a POST without a key whose connection breaks before the answer may or
// may not have been taken; the caller sees an *UnreachableError and has to look.
// Fields that this build does not know are lost in the typed value, but not in
// Reply.Raw.
package client
