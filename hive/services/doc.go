// Package services sees to it that what should run is begun: the autostart entries of the
// configuration. It compares them with the workers that live, and acts only by jobs, which
// anybody can see.
//
// # Model
//
// A service is an autostart entry; its worker has the entry's name. Begin, at the start of
// hive and after a reload, makes every service wanted of which no worker lives, unless the
// last one was stopped on request. One goroutine starts the wanted ones in the order of the
// configuration, so many at once as Parallel says, each when those that it names in
// start_after are ready. A service that has come up is not wanted any more: from then on
// its worker is the supervisor's, which restarts it by its policy.
//
// A start that fails is tried again, without end, after waits that double from the entry's
// restart.backoff to restart.max_backoff, unless the policy is never. What keeps it from
// starting may pass: a stranger on its port, a mount that comes later, a program or model
// that is missing. Only a worker that ran, and was given up by its own restart policy, is
// not: more starts than that policy allows are nobody's wish.
//
// # Guarantees
//
//   - Whatever is wanted and has no worker is in Wanted, with the reason.
//   - A start that would fail at once, before it has a port or a process, costs a job the
//     first time only: a missing file does not fill the list of jobs.
//
// # What it may touch
//
// Jobs, and nothing else; it reads the workers and the catalog. What is wanted is in
// memory only: each start of hive finds it out again.
package services
