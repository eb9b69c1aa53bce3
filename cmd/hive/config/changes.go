package config

import (
	"reflect"
	"slices"

	"rbeehive/hive/setting"
)

// NeedStart returns the keys of the settings that differ in next and that only a
// start of hive acts on, sorted.
func (c *Config) NeedStart(next *Config) []string {
	was, is := *c, *next
	// What a running hive applies, and what the daemon does itself.
	was.Settings, was.Shutdown, was.Auth, was.LogLevel = is.Settings, is.Shutdown, is.Auth, is.LogLevel
	keys := slices.Concat(setting.Changed(&was, &is), differing([]changed{
		{"listen", !slices.Equal(c.Listen, next.Listen)},
		{"socket.group", c.Socket.GID != next.Socket.GID},
		{"socket.mode", c.Socket.Mode != next.Socket.Mode},
		{"socket.path", c.Socket.Path != next.Socket.Path},
		{"tls", (c.TLS == nil) != (next.TLS == nil)}, // TLS can be switched neither on nor off
	}))
	slices.Sort(keys)
	return keys
}

// AppliedByDaemon returns the keys of the settings that differ in next and that the daemon
// itself applies without a restart, sorted.
func (c *Config) AppliedByDaemon(next *Config) []string {
	return differing([]changed{
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

type changed struct {
	key     string
	differs bool
}

func differing(settings []changed) []string {
	keys := []string{}
	for _, s := range settings {
		if s.differs {
			keys = append(keys, s.key)
		}
	}
	return keys
}
