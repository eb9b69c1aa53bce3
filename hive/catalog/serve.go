package catalog

import (
	"slices"
	"strings"

	"rbeehive/store"
)

// EngineModel is the name of the model that a worker of this type insists on in requests: what its
// command line says, else what the program takes from the model's own name. Empty: it takes any.
func (t *Type) EngineModel(spec store.Spec) string {
	if t.naming.flag == "" {
		return ""
	}
	flags := append([]string{t.naming.flag}, t.naming.same...)
	for i, arg := range spec.Argv {
		flag, value, given := strings.Cut(arg, "=")
		switch {
		case !slices.Contains(flags, flag) || flag == "":
		case given:
			return value
		case i+1 < len(spec.Argv):
			return spec.Argv[i+1]
		}
	}
	return ""
}
