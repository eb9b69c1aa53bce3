package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Keys is every key that the configuration is decoded into, as docs/configuration-reference.md
// writes them: those of the file, and port.
func Keys() []string { return keysOf(reflect.TypeFor[settings](), "") }

// EntryKeys is the same for an entry of workers.
func EntryKeys() []string {
	workers, _ := reflect.TypeFor[settings]().FieldByName("Workers")
	return keysOf(workers.Type.Elem(), "")
}

func keysOf(t reflect.Type, prefix string) (keys []string) {
	for f := range t.Fields() {
		name := prefix + f.Tag.Get("mapstructure")
		if name == "-" {
			continue // no key
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer && inner.Elem().Kind() == reflect.Struct {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			keys = append(keys, keysOf(inner, name+".")...)
			continue
		}
		keys = append(keys, name)
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
	for key := range maps.Keys(defaults()) {
		keys = append(keys, strings.ReplaceAll(key, "::", "."))
	}
	slices.Sort(keys)
	return keys
}
