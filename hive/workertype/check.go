package workertype

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/input"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store/plain"
)

// CheckSpawn returns a spawn as it is carried out, or refuses what its type does not take,
// by an *errdefs.InputError. An autostart entry is a service: it has one worker, which is
// called as the entry is, whoever starts it. Who names a worker otherwise means another; an
// entry whose name is none for workers has workers without a name.
func (ts *Types) CheckSpawn(s operation.Spawn) (operation.Spawn, error) {
	typ, ok := ts.catalog().Type(s.Worker)
	if !ok {
		return s, &errdefs.InputError{
			Kind: errdefs.ErrUnknownWorkerType, Field: "worker",
			Detail: fmt.Sprintf("no worker type %q (known: %s)", plain.Short(s.Worker), strings.Join(ts.catalog().Names(), ", ")),
		}
	}
	s = named(typ, s)
	if err := checkPort(s, typ); err != nil {
		return s, err
	}
	if err := typ.Check(given(s)); !errors.Is(err, catalog.ErrUnavailable) { // which is a failed job, not a bad request
		return s, asInput(err)
	}
	return s, nil
}

// named gives a spawn of an autostart entry the entry's name: it is the one worker of it.
func named(typ *catalog.Type, s operation.Spawn) operation.Spawn {
	if typ.Autostart && s.Name == "" && input.WorkerName(typ.Name) == nil {
		s.Name = typ.Name
	}
	return s
}

// given is what a caller has said, as the type of the spawn takes it.
func given(s operation.Spawn) catalog.Values {
	return catalog.Values{Model: s.Model, Device: s.Device, Name: s.Name, Params: s.Params}
}

// asInput is a value that a type does not take, as an *errdefs.InputError; other errors stay.
func asInput(err error) error {
	if v, ok := errors.AsType[*catalog.ValueError](err); ok {
		return errdefs.BadField(v.Field, v.Error())
	}
	return err
}

// checkPort refuses a port that only an entry can give a worker.
func checkPort(s operation.Spawn, typ *catalog.Type) error {
	if s.Port == 0 || s.Port >= input.MinPort || s.Port == typ.Port {
		return nil
	}
	return errdefs.BadField("port", fmt.Sprintf("is %d; below %d a worker gets only the port that its own entry has (port in hive.yaml)", s.Port, input.MinPort))
}

// CheckModel reports whether a caller may have a worker read the model that an
// operation names. One who is trusted may name any. Everybody else may name a model of
// hive's catalog, the one of the worker type's entry, and a name, as of the hub: not a
// path, which the worker would read with its own rights, nor a name that the worker could
// take for one because something in its working directory is called so. Operations other
// than Spawn read no file of a caller's choice.
//
// The error is an *errdefs.InputError (errdefs.ErrForbidden, field "model"). It reads the working
// directory's names, nothing in it. Safe for concurrent use.
func (ts *Types) CheckModel(op operation.Operation, trusted bool) error {
	s, ok := op.(operation.Spawn)
	if !ok || trusted || s.Model == "" {
		return nil
	}
	typ, ok := ts.catalog().Type(s.Worker)
	if !ok {
		return nil // there will be no worker
	}
	// What an admin has put into the entry or the catalog is there for all who may use the type.
	if s.Model == typ.Model || ts.hasModel(s.Model) {
		return nil
	}
	refuse := func(why string) error {
		return &errdefs.InputError{Kind: errdefs.ErrForbidden, Field: "model", Detail: fmt.Sprintf("is %q, %s; only an administrator of this hive may name files: "+
			"give a model of `hivectl models list`, a name of the hub such as org/name, or leave it out where the worker type has one", plain.Short(s.Model), why)}
	}
	first, ok := catalog.ModelName(s.Model)
	if !ok {
		return refuse("which is not the name of a model")
	}
	// Programs that take both names and paths look for a file first.
	ctx, cancel := context.WithTimeout(ts.run.Context(), dirTimeout)
	defer cancel()
	there, err := lookIntoDir.As(ctx, "", [2]string{cmp.Or(typ.Dir, "."), first})
	if err != nil {
		// What cannot be looked at may be there.
		return refuse("which might be a path: " + err.Error())
	}
	if there {
		return refuse("which is also a path in the worker's directory")
	}
	return nil
}

func (ts *Types) hasModel(id string) bool {
	_, release, ok := ts.launcher.Models.Hold(id)
	if ok {
		release()
	}
	return ok
}

// dirTimeout is how long a look into a working directory may take.
const dirTimeout = 5 * time.Second

// lookIntoDir reports whether a directory has an entry of that name, in capitals or not;
// some file systems do not tell them apart. It looks at names only: an entry may be a
// mount that does not answer.
var lookIntoDir = proc.NewLook("entry", func(a [2]string) (bool, error) {
	dir, name := a[0], a[1]
	f, err := os.Open(dir) //nolint:gosec // the directory of a worker, from its entry; only names are read
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }), err
})
