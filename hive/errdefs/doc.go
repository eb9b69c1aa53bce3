// Package errdefs has the errors that hive's callers see: the sentinels that the API
// turns into statuses, the mistakes in what a caller sent, and the failures of jobs with
// their codes. It knows nothing of what the parts of hive do, so that all of them can
// use it, and nobody needs to import a part for its errors alone.
package errdefs
