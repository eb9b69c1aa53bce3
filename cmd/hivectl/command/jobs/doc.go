// Package jobs has the commands for jobs (jobs submit, list, get, watch, cancel) and the one
// that follows everything: events.
//
// What is submitted is passed on byte for byte: its meaning is the API's to judge. Following
// outlives restarts of the hive, and Ctrl-C ends only the following.
//
// It may use the hive through App.Hive, and Stdin for an operation.
package jobs
