// Package lease keeps the leases of programs that hive did not start: each is held by a
// process, which is never signalled, or by renewals in time. A port becomes free only when
// nobody listens on it; else it is quarantined, and freed when nobody was found on it in
// two reviews in a row. Leases of workers are the supervisor's, but for their quarantine.
//
// It may touch the records of leases, through the journal, and ports, through alloc. All
// methods are safe for concurrent use, but Review and those of Recovery.
package lease
