// Package supervisor starts, watches, stops and restarts workers, and takes them over
// from a state file after a start of hive.
//
// # A worker
//
// While anything happens to a worker, one goroutine supervises it and is the only writer
// of its record; everybody else reads a snapshot of that and asks the goroutine (deliver,
// review). A worker that is ready and left in peace has no goroutine but the one in which
// proc waits for its exit, and perhaps a timer for its liveness.
//
// # A start
//
// Every start goes the same way (startProcess): a process is made that waits at its gate,
// one transaction records it with its lease, and only then its program runs. So a kill -9
// at any moment leaves a worker that is known, or no process.
//
// # A stop
//
// What is going to be done is recorded first (recordStopping), then the whole tree is
// ended (terminate), and what follows is decided at the end (afterExit): a new start after
// a wait, a new start at once, or the end of the record. Ports are freed only when the
// tree is proven gone and nobody listens; else they are quarantined.
//
// # What it may touch
//
// Processes of workers, only through proc; their records and leases, only through the
// journal; ports through alloc. It knows jobs only as operation.Job and never the queue.
// Recovery and Review act on the same records: hive says when.
package supervisor
