// Package hive is the daemon: recovery, the workers' life, and jobs.
package hive
