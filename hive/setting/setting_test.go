package setting_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/hive/setting"
)

type pool struct {
	Range alloc.Range   `key:"range" default:"1-2"`
	Rest  time.Duration `key:"rest" min:"0s"`
	Most  int           `key:"most" default:"3" min:"2" hint:"one is too few"`
}

type inner struct {
	Keep time.Duration `key:"keep" default:"24h" min:"1s"`
	Room int64         `key:"logs.room" default:"2GiB" min:"64KiB"`
}

type all struct {
	inner
	Word  string        `key:"word" default:"a" oneof:"a b"`
	Pool  pool          `key:"pool"`
	Every time.Duration `key:"every" default:"1h" min:"1m" zero:"never"`
	On    bool          `key:"on" default:"true"`
	List  []string      `key:"list"`
	Tick  time.Duration `default:"1s"`
	Other string        // no setting
}

func field(t *testing.T, v *all, key string) setting.Field {
	t.Helper()
	for _, f := range setting.Fields(v) {
		if f.Key == key {
			return f
		}
	}
	require.FailNow(t, "no such field", key)
	return setting.Field{}
}

func TestFieldsAndTheirKeys(t *testing.T) {
	var keys []string
	for _, f := range setting.Fields(&all{}) {
		keys = append(keys, f.Key)
	}
	require.Equal(t, []string{"keep", "logs.room", "word", "pool.range", "pool.rest", "pool.most", "every", "on", "list", ""}, keys)
}

func TestDefaultsAreForZeroValuesOnly(t *testing.T) {
	v := all{Word: "b", Other: "x", Pool: pool{Most: 9}}
	setting.Complete(&v)
	require.Equal(t, all{
		inner: inner{Keep: 24 * time.Hour, Room: 2 << 30}, Word: "b", Pool: pool{Range: alloc.Range{First: 1, Last: 2}, Most: 9},
		On: true, Tick: time.Second, Other: "x", // and every: 0 means something there
	}, v)
	require.Panics(t, func() {
		setting.Complete(&struct {
			N int `key:"n" default:"many"`
		}{})
	})
}

func TestFlaws(t *testing.T) {
	v := &all{inner: inner{Keep: time.Millisecond, Room: 63 << 10}, Word: "c", Pool: pool{Rest: -1, Most: 1}, Every: time.Second}
	for key, want := range map[string]string{
		"keep":      "1ms: expected at least 1s",
		"logs.room": "63KiB: expected at least 64KiB",
		"word":      `"c": expected a or b`,
		"pool.rest": "-1ns: expected at least 0s",
		"pool.most": "1: expected at least 2; one is too few",
		"every":     "1s: expected at least 1m0s, or 0s for never",
		"list":      "",
	} {
		require.Equal(t, want, field(t, v, key).Flaw(), key)
	}
	v = &all{}
	setting.Complete(v)
	for _, f := range setting.Fields(v) {
		require.Empty(t, f.Flaw(), f.Key)
	}
	v.Word = ""
	require.Empty(t, field(t, v, "word").Flaw(), "it was not said")
}

func TestParse(t *testing.T) {
	for key, text := range map[string]string{"keep": "0", "every": "1d", "logs.room": "64", "pool.most": "2.0", "on": "yes", "pool.range": "9", "list": "a"} {
		v := &all{}
		err := setting.Parse(text, field(t, v, key).Value)
		if key == "pool.range" {
			require.NoError(t, err)
			require.Equal(t, alloc.Range{First: 9, Last: 9}, v.Pool.Range)
			continue
		}
		require.ErrorContains(t, err, `"`+text+`": `, key)
		require.True(t, reflect.ValueOf(*v).IsZero(), key)
	}
}

func TestChanged(t *testing.T) {
	a, b := &all{List: []string{}}, &all{Other: "x", Tick: 1}
	require.Equal(t, []string{}, setting.Changed(a, b))
	b.Word, b.Room, b.Pool.Range.Last, b.List = "b", 1, 9, []string{"a"}
	require.Equal(t, []string{"list", "logs.room", "pool.range", "word"}, setting.Changed(a, b))
}
