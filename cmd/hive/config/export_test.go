package config

import (
	"slices"
	"strings"

	"rbeehive/hive/setting"
)

// Keys is every key that the configuration is decoded into, as docs/configuration-reference.md
// writes them: those of the file, and port.
func Keys() []string {
	rules := fileRules()
	rules.keys["port"] = rule{}
	delete(rules.keys, "take_over")
	keys := keysOf(rules, "")
	return append(slices.DeleteFunc(keys, func(k string) bool { return strings.HasPrefix(k, "workers.") }), "workers")
}

// EntryKeys is the same for an entry of workers.
func EntryKeys() []string {
	keys := keysOf(fileRules().keys["workers"], "")
	return append(slices.DeleteFunc(keys, func(k string) bool { return strings.HasPrefix(k, "params.") }), "params")
}

func keysOf(r rule, prefix string) (keys []string) {
	for name, sub := range r.keys {
		if sub.keys == nil {
			keys = append(keys, prefix+name)
		}
		keys = append(keys, keysOf(sub, prefix+name+".")...)
	}
	return keys
}

// FlagOf and EnvOf are the flag and the variables of a key; empty: it has none.
func FlagOf(key string) string { return flagKeys()[strings.ReplaceAll(key, ".", "::")] }

func EnvOf(key string) []string {
	key = strings.ReplaceAll(key, ".", "::")
	if !slices.Contains(envKeys(), key) {
		return nil
	}
	return envNames(key)
}

// Defaults is the keys that have a default of their own.
func Defaults() (keys []string) {
	for _, f := range setting.Fields(newSettings()) {
		if f.Tag.Get("default") != "" && f.Key != "" {
			keys = append(keys, f.Key)
		}
	}
	slices.Sort(keys)
	return keys
}
