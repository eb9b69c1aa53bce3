package launch_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/launch"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// A start is made of the type as it is now and of what was asked for.
func TestPrepare(t *testing.T) {
	r := newRig(t)
	program := script(t, "exit 0")
	size := "4096"
	typ := typeOf(t, catalog.Entry{
		Command: []string{program, "--port", "{{.Port}}", "--id", "{{.WorkerID}}", "--name", "{{.Name}}", "--model", "{{.Model}}", "--size", "{{.Params.size}}", "--hive", "{{.HiveURL}}", "--queen", "{{.QueenURL}}"},
		Params:  map[string]catalog.ParamEntry{"size": {Default: &size}}, Env: []string{"COLOUR=blue"}, Dir: r.dir,
	})
	rec := r.record(typ)
	rec.Name, rec.Asked = "mine", store.Asked{Model: "org/name", Device: "cpu", Params: map[string]string{"size": "8192"}}
	prepared, err := r.Prepare(t.Context(), typ, &rec)
	require.NoError(t, err)
	require.Equal(t, []string{
		program, "--port", "9000", "--id", "web-9000-abcdef", "--name", "mine", "--model", "org/name", "--size", "8192",
		"--hive", "http://127.0.0.1:8080", "--queen", "http://queen:7833",
	}, rec.Spec.Argv)
	require.Equal(t, []any{r.dir, "org/name", "cpu"}, []any{rec.Spec.Dir, rec.Spec.Model, rec.Spec.Device})
	got, _ := lookup(prepared.Env, "COLOUR")
	require.Equal(t, "blue", got)
	for _, arg := range rec.Spec.Argv {
		require.NotContains(t, arg, "blue", "no value of the environment is recorded")
	}
}

// With its ports a start is completed: what was found is not looked for again, but for
// another program.
func TestComplete(t *testing.T) {
	r := newRig(t)
	program := script(t, "exit 0")
	typ := typeOf(t, catalog.Entry{Command: []string{program, "{{.Port}}"}})
	rec := r.record(typ)
	p, err := r.Prepare(t.Context(), typ, &rec)
	require.NoError(t, err)
	require.NoError(t, os.Remove(program))
	rec.Port, rec.Ports = 9007, []uint16{9007}
	q, err := r.Complete(t.Context(), p, typ, &rec)
	require.NoError(t, err)
	require.Equal(t, p, q)
	require.Equal(t, []string{program, "9007"}, rec.Spec.Argv)

	ported := script(t, "exit 0")
	require.NoError(t, os.Rename(ported, ported+"-9000"))
	typ = typeOf(t, catalog.Entry{Command: []string{ported + "-{{.Port}}"}})
	rec = r.record(typ)
	p, err = r.Prepare(t.Context(), typ, &rec)
	require.NoError(t, err)
	rec.Port, rec.Ports = 9007, []uint16{9007}
	_, err = r.Complete(t.Context(), p, typ, &rec)
	var f *errdefs.Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, errdefs.CodeProgramNotFound, f.Code)
	require.NoError(t, os.Rename(ported+"-9000", ported+"-9007"))
	_, err = r.Complete(t.Context(), p, typ, &rec)
	require.NoError(t, err)
	require.Equal(t, []string{ported + "-9007"}, rec.Spec.Argv)
}

// A worker keeps the ports that it has, however many its type leases by now.
func TestAWorkerKeepsItsPorts(t *testing.T) {
	r := newRig(t)
	typ := typeOf(t, catalog.Entry{Command: []string{"/bin/true", "{{range .Ports}}{{.}},{{end}}"}, Ports: 3})
	rec := r.record(typ)
	rec.Ports = []uint16{9000, 9001}
	_, err := r.Prepare(t.Context(), typ, &rec)
	require.NoError(t, err)
	require.Equal(t, []string{"/bin/true", "9000,9001,"}, rec.Spec.Argv)
}

// A wrong path is the usual mistake: it is found before anything is leased.
func TestPrepareFindsMistakes(t *testing.T) {
	r := newRig(t)
	plain := filepath.Join(r.dir, "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o644))
	for name, c := range map[string]struct {
		entry      catalog.Entry
		asked      store.Asked
		code, want string
	}{
		"no program":         {entry: catalog.Entry{Command: []string{filepath.Join(r.dir, "gone")}}, code: errdefs.CodeProgramNotFound, want: filepath.Join(r.dir, "gone")},
		"not in PATH":        {entry: catalog.Entry{Command: []string{"no-such-command-here"}}, code: errdefs.CodeProgramNotFound, want: "no-such-command-here"},
		"not executable":     {entry: catalog.Entry{Command: []string{plain}}, code: errdefs.CodeProgramNotFound, want: plain},
		"no model":           {entry: catalog.Entry{Command: []string{"/bin/true", "{{.Model}}"}}, code: errdefs.CodeExecFailed, want: `the command of worker type "web": `},
		"an unknown value":   {entry: catalog.Entry{}, asked: store.Asked{Params: map[string]string{"size": "1"}}, code: errdefs.CodeExecFailed, want: `the command of worker type "web": `},
		"no env_file":        {entry: catalog.Entry{EnvFile: filepath.Join(r.dir, "gone")}, code: errdefs.CodeExecFailed, want: `env_file of worker type "web": `},
		"a preset's script":  {entry: catalog.Entry{Preset: "comfyui", Program: "/bin/true"}, code: errdefs.CodeProgramNotFound, want: "no script is configured for web; set its path in hive.yaml"},
		"an unknown user":    {entry: catalog.Entry{User: "no-such-user-here"}, code: errdefs.CodeExecFailed, want: `user of worker type "web": unknown user`},
		"a file as a folder": {entry: catalog.Entry{EnvFile: plain + "/x"}, code: errdefs.CodeExecFailed, want: "not a directory"},
	} {
		typ := typeOf(t, c.entry)
		rec := r.record(typ)
		rec.Asked = c.asked
		_, err := r.Prepare(t.Context(), typ, &rec)
		f := requireFailure(t, err, c.code)
		require.Contains(t, f.Message, c.want, name)
		require.NotContains(t, f.Message, proc.ErrProgramNotFound.Error()+": ", "the code says so")
	}
}

func TestValues(t *testing.T) {
	r := newRig(t)
	op := operation.Spawn{Model: "m", Device: "1", Name: "n", Params: map[string]string{"a": "b"}}
	require.Equal(t, catalog.Values{
		Port: 9001, Model: "m", Device: "1", WorkerID: "w", Name: "n", QueenURL: "http://queen:7833", HiveURL: "http://127.0.0.1:8080", Params: op.Params,
	}, r.Values(op, "w", 9001))
	queen := ""
	r.QueenURL = func() string { return queen }
	require.Empty(t, r.Values(op, "w", 9001).QueenURL)
	queen = "http://other:1"
	require.Equal(t, queen, r.Values(op, "w", 9001).QueenURL, "as it is configured now")
}

// What proc is told is what was recorded: a next hive stops and proves it by that.
func TestProcSpec(t *testing.T) {
	r := newRig(t)
	no := false
	rec := store.Worker{
		WorkerID: "w", LeaseID: "l", Log: "/logs/w.log",
		Spec: store.Spec{Argv: []string{"/bin/true", "x"}, Dir: "/srv", User: outsider, NoNewPrivs: &no},
	}
	want := proc.Spec{
		Argv: []string{"/bin/true", "x"}, Env: []string{"A=b"}, Dir: "/srv", User: outsider, NoNewPrivs: &no, Log: "/logs/w.log",
		StateID: "state", Secret: store.Secret("secret"), LeaseID: "l", WorkerID: "w",
	}
	require.Equal(t, want, r.ProcSpec(rec, []string{"A=b"}))
	r.Cgroups = true
	want.Cgroup = "w"
	require.Equal(t, want, r.ProcSpec(rec, []string{"A=b"}))
}

func TestTree(t *testing.T) {
	r := newRig(t)
	uid := uint32(4001)
	id := store.Identity{PID: 7, BootID: "b"}
	rec := store.Worker{WorkerID: "w", LeaseID: "l", Log: "/logs/w.log", Cgroup: "/hive/w", Identity: &id, StampUID: &uid}
	tree := r.Tree(rec, nil)
	require.Equal(t, &proc.Tree{
		Identity: id, Cgroup: "/hive/w", Log: "/logs/w.log", StateID: "state", LeaseID: "l", WorkerID: "w", UID: 4001,
		StampProof: proc.Prove(r.Secret, "state", "l", "w", 4001),
	}, tree)
	require.NotEmpty(t, tree.StampProof)

	rec.StampUID, rec.Identity = nil, nil // of an older hive
	tree = r.Tree(rec, nil)
	require.Empty(t, tree.StampProof)
	require.Equal(t, uint32(os.Geteuid()), tree.UID)
	require.Zero(t, tree.Identity)
}

func TestUserOf(t *testing.T) {
	uid := uint32(4001)
	for name, c := range map[string]struct {
		rec  store.Worker
		want uint32
	}{
		"recorded":                {store.Worker{StampUID: &uid, Spec: store.Spec{User: outsider}}, 4001},
		"hive's own":              {store.Worker{}, uint32(os.Geteuid())},
		"by the user database":    {store.Worker{Spec: store.Spec{User: outsider}}, 54321},
		"a user who is not there": {store.Worker{Spec: store.Spec{User: "no-such-user-here"}}, proc.NoUser},
	} {
		require.Equal(t, c.want, launch.UserOf(c.rec), name)
	}
}

// Who asked for a start and gives up has not found a file system that hangs.
func TestPrepareIsGivenUp(t *testing.T) {
	r := newRig(t)
	types, err := catalog.New([]catalog.Entry{{Name: "web", Command: []string{script(t, "exit 0"), "{{.Port}}"}}}, "/bin/true")
	require.NoError(t, err)
	typ, _ := types.Type("web")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errdefs.ErrCancelled)
	// Which of two things that are so is seen first is the runtime's choice.
	for range 100 {
		rec := r.record(typ)
		for _, err := range []error{
			func() error { _, err := r.Prepare(ctx, typ, &rec); return err }(),
			r.Preflight(ctx, types, rec),
		} {
			if err != nil {
				require.ErrorIs(t, err, errdefs.ErrCancelled)
			}
		}
	}
}
