package tokens_test

import (
	"crypto/sha256"
	"io"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/journal"
	"rbeehive/hive/run"
	"rbeehive/hive/tokens"
	"rbeehive/store"
	"rbeehive/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is the tokens of a real state file.
type rig struct {
	*tokens.Set
	t     *testing.T
	store *store.Store
	path  string
	run   *run.State
	logs  *test.Hook
	types *catalog.Catalog
}

// newRig returns the tokens of a hive that serves, with the worker types cpu and web.
func newRig(t *testing.T) *rig {
	t.Helper()
	types, err := catalog.New([]catalog.Entry{{Name: "web", Command: []string{"/bin/true"}}}, "/bin/true")
	require.NoError(t, err)
	r := &rig{t: t, types: types}
	r.store = storetest.Open(t, func(o *store.Options) { r.path = o.Path })
	require.NoError(t, r.load())
	r.run.Serve()
	return r
}

// load reads the tokens as the next hive does.
func (r *rig) load() (err error) {
	r.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	r.logs, r.run = test.NewLocal(log), run.New()
	r.t.Cleanup(r.run.Close)
	r.Set, err = tokens.Load(r.run, journal.New(r.run.Context(), r.store, "/data", log), func() *catalog.Catalog { return r.types }, log)
	return err
}

func reading(name string) tokens.Request {
	return tokens.Request{Name: name, Rights: access.Rights{Level: access.Read}}
}

func (r *rig) add(n tokens.Request) (store.Token, string) {
	r.t.Helper()
	token, secret, err := r.Add(r.t.Context(), access.Hive(), n)
	require.NoError(r.t, err)
	return token, secret
}

// who is whose secret this is, with the rights, as a person reads them; empty: nobody's.
func (r *rig) who(secret string) string {
	name, rights, ok := r.Rights(sha256.Sum256([]byte(secret)))
	if !ok {
		require.Empty(r.t, name)
		require.Zero(r.t, rights)
		return ""
	}
	return name + ": " + rights.String()
}

func names(list []store.Token) (all []string) {
	for _, t := range list {
		all = append(all, t.Name)
	}
	return all
}
