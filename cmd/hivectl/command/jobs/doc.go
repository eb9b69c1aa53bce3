// Package jobs has the commands for jobs (jobs submit, list, get, watch, cancel) and the
// one that follows everything: events. An operation is passed on byte for byte: the API
// validates it. Following survives restarts of the hive, and Ctrl-C ends only the
// following.
//
// It may use the hive through App.Hive, and Stdin for an operation.
package jobs
