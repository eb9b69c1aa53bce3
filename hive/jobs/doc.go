// Package jobs is the queue of jobs: it records a request, begins it in its turn, keeps
// its progress and its end, and answers who asks for it. What a job does is none of its
// business: that is Options.Executor's, by the table of package operation.
//
// A job is durable when Submit returns. One that has its effect at once is recorded with it,
// and ends with what it was for (accept.go, Job.RecordEnd): each commit costs a flush of the
// disk. Jobs on one worker have their effects in the
// order in which they were submitted (order.go). Operations that only look have no job
// in the file: they are answered at once, and kept in memory for a while (queries.go).
//
// It may touch the records of jobs, through the journal; nothing else. All methods are
// safe for concurrent use.
package jobs
