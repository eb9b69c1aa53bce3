package hive

import (
	"time"

	"rbeehive/hive/jobs"
)

// Orphans says what happens to processes that an ended lease has left behind.
type Orphans string

// What can happen to processes that an ended lease has left behind.
const (
	OrphansKeep Orphans = "keep"
	OrphansKill Orphans = "kill"
)

// Settings is what of a Config can be changed while the hive runs. The tags are those of
// package setting; zero values take the defaults there.
type Settings struct {
	Jobs jobs.Config `key:"jobs"`
	// StartParallel is how many autostart entries are started at once.
	StartParallel int `key:"start_parallel" default:"2" min:"1"`
	// WorkersKeep is how long an ended worker's record and log stay, at least
	// those of the last 50.
	WorkersKeep time.Duration `key:"workers_keep" default:"24h" min:"1s"`
	Orphans     Orphans       `key:"audit.orphans" default:"keep" oneof:"keep kill"`
	// LogsMaxTotal bounds the logs of all ended workers together, in bytes.
	LogsMaxTotal int64        `key:"logs.max_total" default:"2GiB" min:"64KiB"`
	Backup       BackupConfig `key:"backup"`
	QueenURL     string       `key:"queen_url"` // whom the hive is announced to; empty: nobody
}

// BackupConfig is how the state file is backed up while hive runs. Each backup is a copy of
// the whole file.
type BackupConfig struct {
	Interval time.Duration `key:"interval" default:"24h" min:"1m" zero:"no automatic backups"` // between two automatic ones
	// Keep is how many of them stay.
	Keep int `key:"keep" default:"7" min:"1" hint:"no automatic backups are made with backup.interval 0s"`
}
