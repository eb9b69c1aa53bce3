package hive

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"rbeehive/hive/catalog"
)

// checkSpawn refuses what the type of a spawn does not take: an *InputError.
func (h *Hive) checkSpawn(s Spawn) error {
	typ, ok := h.types().Type(s.Worker)
	if !ok {
		return &InputError{
			Kind: ErrUnknownWorkerType, Field: "worker",
			Detail: fmt.Sprintf("no worker type %q (known: %s)", clip(s.Worker), strings.Join(h.typeNames(), ", ")),
		}
	}
	if err := s.checkPort(typ); err != nil {
		return err
	}
	if err := typ.Check(s.given()); !errors.Is(err, catalog.ErrUnavailable) { // which is a failed job, not a bad request
		return asInput(err)
	}
	return nil
}

// given is what a caller has said, as the type of the spawn takes it.
func (s Spawn) given() catalog.Values {
	return catalog.Values{Model: s.Model, Device: s.Device, Name: s.Name, Params: s.Params}
}

// asInput is a value that a type does not take, as an *InputError; other errors stay.
func asInput(err error) error {
	if v, ok := errors.AsType[*catalog.ValueError](err); ok {
		return badField(v.Field, v.Error())
	}
	return err
}

// leastPort is the first port that a program may bind without a privilege
// (ip_unprivileged_port_start, ip(7)). Clients take what listens below it for a
// service of the machine's administrator.
const leastPort = 1024

// checkPort refuses a port that only an entry can give a worker.
func (s Spawn) checkPort(typ *catalog.Type) error {
	if s.Port == 0 || s.Port >= leastPort || s.Port == typ.Port {
		return nil
	}
	return badField("port", fmt.Sprintf("is %d; below %d a worker gets only the port that its own entry has (port in hive.yaml)", s.Port, leastPort))
}

// CheckModel reports whether a caller may have a worker read the model that an
// operation names. One who is trusted may name any. Everybody else may name a model of
// hive's catalog, the one of the worker type's entry, and a name, as of the hub: not a
// path, which the worker would read with its own rights, nor a name that the worker could
// take for one because something in its working directory is called so. Operations other
// than Spawn read no file of a caller's choice.
//
// The error is an *InputError (ErrForbidden, field "model"). It reads the working
// directory's names, nothing in it. Safe for concurrent use.
func (h *Hive) CheckModel(op Operation, trusted bool) error {
	s, ok := op.(Spawn)
	if !ok || trusted || s.Model == "" {
		return nil
	}
	typ, ok := h.types().Type(s.Worker)
	if !ok {
		return nil // there will be no worker
	}
	if s.Model == typ.Model || h.hasModel(s.Model) {
		return nil
	}
	refuse := func(why string) error {
		return &InputError{Kind: ErrForbidden, Field: "model", Detail: fmt.Sprintf("is %q, %s; only an administrator of this hive may name files: "+
			"give a model of `hivectl models list`, a name of the hub such as org/name, or leave it out where the worker type has one", clip(s.Model), why)}
	}
	first, ok := catalog.ModelName(s.Model)
	if !ok {
		return refuse("which is not the name of a model")
	}
	there, err := holds(typ.Dir, first)
	if err != nil {
		return refuse("which might be a path: " + err.Error())
	}
	if there {
		return refuse("which is also a path in the worker's directory")
	}
	return nil
}

func (h *Hive) hasModel(id string) bool {
	_, release, ok := h.models.Hold(id)
	if ok {
		release()
	}
	return ok
}

// holds reports whether a directory has an entry of that name, in capitals or not;
// some file systems do not tell them apart. It looks at names only: an entry may be a
// mount that does not answer. Empty: hive's own directory.
func holds(dir, name string) (bool, error) {
	if dir == "" {
		dir = "."
	}
	f, err := os.Open(dir) //nolint:gosec // the directory of a worker, from its entry; only names are read
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }), err
}
