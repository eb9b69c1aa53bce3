package config

import (
	"reflect"
	"slices"
)

// NeedStart returns the keys of the settings that differ in next and that only a
// start of hive acts on, sorted.
func (c *Config) NeedStart(next *Config) []string {
	return differing([]setting{
		{"advertise", c.Advertise != next.Advertise},
		{"allowed_hosts", !slices.Equal(c.AllowedHosts, next.AllowedHosts)},
		{"audit.interval", c.AuditInterval != next.AuditInterval},
		{"data_dir", c.DataDir != next.DataDir},
		{"hive_id", c.HiveID != next.HiveID},
		{"listen", !slices.Equal(c.Listen, next.Listen)},
		{"log_format", c.LogFormat != next.LogFormat},
		{"logs.keep", c.Logs.Keep != next.Logs.Keep},
		{"logs.max_size", c.Logs.MaxSize != next.Logs.MaxSize},
		{"models.dir", c.Models.Dir != next.Models.Dir},
		{"models.endpoint", c.Models.Endpoint != next.Models.Endpoint},
		{"ports.per_user", c.Ports.PerUser != next.Ports.PerUser},
		{"ports.policy", c.Ports.Policy != next.Ports.Policy},
		{"ports.quarantine", c.Ports.Quarantine != next.Ports.Quarantine},
		{"ports.range", c.Ports.Range != next.Ports.Range},
		{"ports.reserved", !slices.Equal(c.Ports.Reserved, next.Ports.Reserved)},
		{"socket.group", c.Socket.GID != next.Socket.GID},
		{"socket.mode", c.Socket.Mode != next.Socket.Mode},
		{"socket.path", c.Socket.Path != next.Socket.Path},
		{"worker_user", c.WorkerUser != next.WorkerUser},
		{"tls", (c.TLS == nil) != (next.TLS == nil)}, // TLS can be switched neither on nor off
	})
}

// AppliedByDaemon returns the keys of the settings that differ in next and that the daemon
// itself applies without a restart, sorted.
func (c *Config) AppliedByDaemon(next *Config) []string {
	return differing([]setting{
		{"access", !reflect.DeepEqual(c.Access, next.Access) && c.Auth == next.Auth},
		{"auth", c.Auth != next.Auth},
		{"log_level", c.LogLevel != next.LogLevel},
		{"shutdown", c.Shutdown != next.Shutdown},
		{"tls", c.TLS.renewed(next.TLS)},
	})
}

// renewed reports whether next is another certificate, from whatever file.
func (t *TLS) renewed(next *TLS) bool {
	return t != nil && next != nil && !slices.EqualFunc(t.Certificate.Certificate, next.Certificate.Certificate, slices.Equal)
}

type setting struct {
	key     string
	differs bool
}

func differing(settings []setting) []string {
	keys := []string{}
	for _, s := range settings {
		if s.differs {
			keys = append(keys, s.key)
		}
	}
	return keys
}
