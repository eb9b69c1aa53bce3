// Package probe finds out whether a worker serves: who listens on its port at its own
// address, whether that is a member of the worker, and whether it gives the expected
// answer. Nobody else is sent a request: the listeners are proven to be the worker's
// before one is sent, and again once the connection is made.
//
// A Prober looks once and keeps nothing. A Tracker makes a verdict of a sequence of
// results, without effects. Both only read: the socket table, /proc, and the answer of
// the worker.
package probe
