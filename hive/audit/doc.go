// Package audit compares what the records say with the processes and the listeners of
// the machine, and reports what does not fit (Finding). It acts only on what it has seen
// in two audits in a row, and then little: workers are probed again, and, where that is
// configured, what ended leases have left behind is ended. Adopting and freeing is for the
// owners of the records (Options.Review).
//
// It reads the socket table once an audit, and /proc a few times.
package audit
