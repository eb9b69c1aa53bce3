package config

import (
	"os"
	"slices"
	"strings"

	"rbeehive/hive/input"
)

// Variables that begin with HIVE_ and belong to others: hivectl, the tests, and workers.
func foreignVariable(name string) bool {
	return name == "HIVE_ADDR" || name == "HIVE_TOKEN_FILE" || name == "HIVE_CA_FILE" ||
		strings.HasPrefix(name, "HIVE_TEST_") || strings.HasPrefix(name, "HIVE_WORKER_")
}

// envKeys is every key that a variable may set: the plain values of the file,
// and port.
func envKeys() []string {
	keys := []string{"port"}
	for name, r := range fileRules().keys {
		switch {
		case r.refuse != "" || r.list:
		case r.keys == nil:
			keys = append(keys, name)
		default:
			for sub, inner := range r.keys {
				if inner.keys == nil { // a mapping fits into no variable
					keys = append(keys, name+"::"+sub)
				}
			}
		}
	}
	// fileRules is a map: without an order the suggestion for a misspelled name would vary.
	slices.Sort(keys)
	return keys
}

// envNames is the variables of a key, the first one that is set counts.
func envNames(key string) []string {
	name := "HIVE_" + strings.ToUpper(strings.ReplaceAll(key, "::", "_"))
	if key == "hive_id" {
		return []string{"HIVE_ID", name}
	}
	return []string{name}
}

// foreign is the value of a variable that every client of the hub reads, and that was hardly
// set for hive: what hive cannot use of it is ignored with a warning, and no reason not to
// start. Around it there may be white space, as of a file with a line end. flaw does not
// quote the value.
func (l *loader) foreign(c *Config, name string, flaw func(value string) string) string {
	value := strings.TrimSpace(os.Getenv(name))
	if value == "" {
		return ""
	}
	if why := flaw(value); why != "" {
		c.Warnings = append(c.Warnings, &Error{Source: name, Reason: "is ignored: " + why})
		return ""
	}
	return value
}

// checkEnviron refuses HIVE_* variables that nothing reads: a misspelled one would be
// ignored silently.
func (l *loader) checkEnviron(environ []string) {
	known := []string{"HIVE_CONFIG"}
	for _, key := range envKeys() {
		known = append(known, envNames(key)...)
	}
	var unknown []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "HIVE_") && !foreignVariable(name) && !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	// In the same order each time, whatever that of the environment.
	slices.Sort(unknown)
	for _, name := range unknown {
		l.add(&Error{Source: name, Reason: unknownVariable(name, known)})
	}
}

func unknownVariable(name string, known []string) string {
	key := strings.ToLower(strings.TrimPrefix(name, "HIVE_"))
	if r, ok := fileRules().keys[key]; ok {
		if r.refuse != "" {
			return key + " " + r.refuse
		}
		return key + " can be given in the configuration file only"
	}
	// Nobody has set these by hand, so a suggestion of what was meant would mislead.
	if strings.HasPrefix(name, "HIVE_SERVICE_") || strings.HasPrefix(name, "HIVE_PORT_") && strings.ContainsAny(name[len("HIVE_PORT_"):], "0123456789") {
		return "unknown variable; " + serviceLinks
	}
	return "unknown variable" + input.DidYouMean(name, known)
}

// Kubernetes sets <SERVICE>_PORT=tcp://10.0.0.1:7835 and more in every pod for
// each service, and Docker's old --link does the same.
const serviceLinks = "Kubernetes and Docker set such variables for a service named hive (service links): " +
	"set enableServiceLinks: false for this pod, rename the service, or unset it"
