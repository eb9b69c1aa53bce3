package hive

import (
	"reflect"
	"slices"
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

// Settings is what of a Config can be changed while the hive runs. Each has the key of
// the configuration file as its tag: a reload tells by these what has changed. Zero values
// take the defaults that are named.
type Settings struct {
	Jobs jobs.Config `key:"jobs"`
	// StartParallel is how many autostart entries are started at once; default 2.
	StartParallel int `key:"start_parallel"`
	// WorkersKeep is how long an ended worker's record and log stay, at least
	// those of the last 50; default 24 h.
	WorkersKeep time.Duration `key:"workers_keep"`
	Orphans     Orphans       `key:"audit.orphans"` // default: keep
	// LogsMaxTotal bounds the logs of all ended workers together, in bytes; default 2 GiB.
	LogsMaxTotal int64        `key:"logs.max_total"`
	Backup       BackupConfig `key:"backup"`
	QueenURL     string       `key:"queen_url"` // whom the hive is announced to; empty: nobody
}

// BackupConfig is how the state file is backed up while hive runs.
type BackupConfig struct {
	Interval time.Duration `key:"interval"` // between two automatic backups; 0: none are made
	Keep     int           `key:"keep"`     // how many of them stay; default 7
}

func (s *Settings) complete() {
	setDefault(&s.StartParallel, 2)
	setDefault(&s.Orphans, OrphansKeep)
	setDefault(&s.WorkersKeep, 24*time.Hour)
	setDefault(&s.LogsMaxTotal, 2<<30)
	setDefault(&s.Backup.Keep, 7)
	setDefault(&s.Jobs.Retention, 168*time.Hour)
	setDefault(&s.Jobs.Keep, 10000)
	setDefault(&s.Jobs.MaxQueued, 10000)
	setDefault(&s.Jobs.MaxQueueAge, 10*time.Minute)
	setDefault(&s.Jobs.StreamWait, 25*time.Second)
}

// changes returns the keys of the settings that differ, sorted.
func (s Settings) changes(next Settings) []string {
	keys := differing("", reflect.ValueOf(s), reflect.ValueOf(next))
	slices.Sort(keys)
	return keys
}

// differing compares two structs of one type by their key tags.
func differing(prefix string, a, b reflect.Value) []string {
	keys := []string{}
	// By reflection, so that no new setting can be forgotten here.
	for i := range a.NumField() {
		key := prefix + a.Type().Field(i).Tag.Get("key")
		if a.Field(i).Kind() == reflect.Struct {
			keys = append(keys, differing(key+".", a.Field(i), b.Field(i))...)
		} else if !a.Field(i).Equal(b.Field(i)) {
			keys = append(keys, key)
		}
	}
	return keys
}
