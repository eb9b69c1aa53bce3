// Package lifecycle is the life of a worker: the states it can be in, what an event
// makes of a state (Transition), and whether and when a worker that has ended is started
// again (NextStart). It has no effects; who observes events and acts on states is the
// supervisor.
//
//	Created -> spawning -> running -> loading -> ready <-> unhealthy
//	                  \        \         \         \          \
//	                   `--------`---------`---------`----------`-> stopping -> stopped
//	                                                                  |  \---> failed
//	                   spawning <----------------------- backoff <----'
//
// Transition is the only code that assigns a worker's state; a test sees to that.
// "unverified" is beside the others: whether the recorded process lives cannot be told.
package lifecycle
