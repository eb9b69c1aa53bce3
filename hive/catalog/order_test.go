package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
)

func TestStartAfter(t *testing.T) {
	entry := func(name string, after ...string) catalog.Entry {
		return catalog.Entry{Name: name, Command: []string{"/bin/x", "{{.Port}}"}, Autostart: true, StartAfter: after}
	}
	c, err := catalog.New([]catalog.Entry{entry("web", "db", "cache"), entry("db"), entry("cache", "db")}, "/usr/bin/hive")
	require.NoError(t, err)
	web, _ := c.Type("web")
	require.Equal(t, []string{"db", "cache"}, web.StartAfter)
	db, _ := c.Type("db")
	require.Less(t, web.Order, db.Order, "in the order of the configuration")

	other, err := catalog.New([]catalog.Entry{entry("web", "db"), entry("db"), entry("cache", "db")}, "/usr/bin/hive")
	require.NoError(t, err)
	was, _ := other.Type("web")
	require.Equal(t, []string{"start_after"}, was.Changes(web).Later, "no worker is stale for it")
	require.Empty(t, was.Changes(web).Start)

	manual := entry("manual")
	manual.Autostart = false
	waits := entry("waits", "db")
	waits.Autostart = false
	for name, c := range map[string]struct {
		entries []catalog.Entry
		want    string
	}{
		"nothing of that name": {[]catalog.Entry{entry("web", "dbb"), entry("db")}, `(web): start_after[0]: "dbb": there is no entry of that name`},
		"itself":               {[]catalog.Entry{entry("web", "web")}, `(web): start_after[0]: "web": leads back to web`},
		"a circle":             {[]catalog.Entry{entry("a", "b"), entry("b", "c"), entry("c", "a")}, `(a): start_after[0]: "b": leads back to a (a after b after c after a): each would wait for the others`},
		"a circle beside":      {[]catalog.Entry{entry("z", "a"), entry("a", "b"), entry("b", "a")}, `(a): start_after[0]: "b": leads back to a`},
		"not autostarted":      {[]catalog.Entry{entry("web", "db", "manual"), entry("db"), manual}, `start_after[1]: "manual": expected an entry with autostart: true`},
		"without autostart":    {[]catalog.Entry{waits, entry("db")}, "start_after[0]: counts for entries with autostart: true only"},
	} {
		_, err := catalog.New(c.entries, "/usr/bin/hive")
		require.ErrorContains(t, err, c.want, name)
	}
}
