package config_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
)

// Every setting of the file is noticed when it changes, and each in one place:
// one that is forgotten would be neither applied nor told of.
func TestEveryChangeIsNoticed(t *testing.T) {
	p := newPlace(t)
	before, err := p.load(t)
	require.NoError(t, err)
	ofHive := map[string]func(a, b hive.Settings) bool{
		"jobs.retention":     func(a, b hive.Settings) bool { return a.Jobs.Retention != b.Jobs.Retention },
		"jobs.keep":          func(a, b hive.Settings) bool { return a.Jobs.Keep != b.Jobs.Keep },
		"jobs.max_queued":    func(a, b hive.Settings) bool { return a.Jobs.MaxQueued != b.Jobs.MaxQueued },
		"jobs.max_queue_age": func(a, b hive.Settings) bool { return a.Jobs.MaxQueueAge != b.Jobs.MaxQueueAge },
		"jobs.stream_wait":   func(a, b hive.Settings) bool { return a.Jobs.StreamWait != b.Jobs.StreamWait },
		"workers_keep":       func(a, b hive.Settings) bool { return a.WorkersKeep != b.WorkersKeep },
		"start_parallel":     func(a, b hive.Settings) bool { return a.StartParallel != b.StartParallel },
		"audit.orphans":      func(a, b hive.Settings) bool { return a.Orphans != b.Orphans },
		"backup.interval":    func(a, b hive.Settings) bool { return a.Backup.Interval != b.Backup.Interval },
		"backup.keep":        func(a, b hive.Settings) bool { return a.Backup.Keep != b.Backup.Keep },
		"queen_url":          func(a, b hive.Settings) bool { return a.QueenURL != b.QueenURL },
		"logs.max_total":     func(a, b hive.Settings) bool { return a.LogsMaxTotal != b.LogsMaxTotal },
	}
	for key, value := range map[string]string{
		"hive_id": "box", "listen": "127.0.0.1:7999", "data_dir": "/elsewhere", "queen_url": "http://127.0.0.1:7833",
		"advertise": "http://box.lan", "auth": "token", "socket.mode": "'0660'", "socket.path": "/run/h", "socket.group": "0",
		"allowed_hosts": "[box.lan]", "shutdown": "stop", "log_level": "debug", "log_format": "json",
		"ports.range": "9000-9100", "ports.reserved": "[8188]", "ports.policy": "sequential", "ports.quarantine": "5s", "ports.per_user": "9", "access": "{tcp_root: false}",
		"jobs.retention": "1h", "jobs.keep": "1000", "jobs.max_queued": "7", "jobs.max_queue_age": "1h", "jobs.stream_wait": "9s",
		"workers_keep": "9h", "start_parallel": "9", "audit.interval": "9s", "audit.orphans": "kill",
		"gate": "process", "logs.max_size": "1MiB", "logs.keep": "9", "logs.max_total": "1MiB",
		"backup.interval": "1h", "backup.keep": "9",
		"models.dir": "/models", "models.endpoint": "http://mirror.lan/hf",
	} {
		group, sub, nested := strings.Cut(key, ".")
		doc := group + ": " + value
		if nested {
			doc = group + ": {" + sub + ": " + value + "}"
		}
		p.write(t, "hive.yaml", doc+"\n")
		after, err := p.load(t)
		require.NoError(t, err)
		noticed := slices.Concat(before.NeedStart(after), before.AppliedByDaemon(after))
		if differ := ofHive[key]; differ != nil {
			require.True(t, differ(before.Settings, after.Settings), key)
			noticed = append(noticed, key)
		} else {
			require.Equal(t, before.Settings, after.Settings, key)
		}
		if key == "socket.group" { // whose members are admins, then
			key = "access"
			noticed = slices.DeleteFunc(noticed, func(k string) bool { return k == "socket.group" })
		}
		require.Equal(t, []string{key}, noticed)
	}
	// A field without a key that is added to Config is to be thought of here: File, Unread,
	// Passed, Empty, Workers, Warnings and Shadowed are no settings; Listen, Socket, Access and TLS are compared
	// one by one.
	require.Equal(t, 19, reflect.TypeOf(*before).NumField())
}
