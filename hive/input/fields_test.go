package input_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/input"
)

const example = `{"operation": "hive_check"}`

func object(t *testing.T, body string) input.Fields {
	t.Helper()
	f, err := input.Object([]byte(body), example)
	require.NoError(t, err, body)
	return f
}

// refused requires an InputError about a field, with these words.
func refused(t *testing.T, err error, field, text string) {
	t.Helper()
	var in *errdefs.InputError
	require.ErrorAs(t, err, &in)
	require.ErrorIs(t, err, errdefs.ErrBadRequest)
	require.Equal(t, field, in.Field)
	require.Contains(t, in.Detail, text)
}

func TestObjectRefuses(t *testing.T) {
	for body, c := range map[string]struct{ field, text string }{
		"":                           {"", "the body is empty; expected a JSON object such as " + example},
		" \n\t":                      {"", "the body is empty"},
		"[]":                         {"", "the body is not a JSON object"},
		"1e999":                      {"", "the body is not a JSON object"},
		`{"a":"x`:                    {"", "it ends in the middle"},
		`{"a":{"b`:                   {"", "it ends in the middle"},
		"null":                       {"", "the body is not a JSON object"},
		`"{}"`:                       {"", "the body is not a JSON object"},
		"nonsense":                   {"", "the body is not JSON: "},
		"{":                          {"", "it ends in the middle"},
		`{"a":`:                      {"", "it ends in the middle"},
		`{"a":1`:                     {"", "it ends in the middle"},
		`{"a" 1}`:                    {"", "the body is not JSON"},
		`{a:1}`:                      {"", "the body is not JSON"},
		`{"a":1,}`:                   {"", "the body is not JSON"},
		`{"a":1} {}`:                 {"", "something follows the JSON object"},
		`{"a":1} x`:                  {"", "something follows the JSON object"},
		`{"a":1,"a":1}`:              {"a", "is there twice"},
		"{\"a\":\"m\xe8\"}":          {"a", "is not valid UTF-8"},
		"{\"a\":{\"b\":[\"\xe8\"]}}": {"a", "is not valid UTF-8"},
		`{"a":"m\udce8"}`:            {"a", `half a surrogate pair such as \udce8`}, // Python's os.fsdecode(b"m\xe8")
		`{"a":"\ud83d"}`:             {"a", "half a surrogate pair"},
		`{"a":"\ud83dx"}`:            {"a", "half a surrogate pair"},
		`{"a":"\ud83d\n12345"}`:      {"a", "half a surrogate pair"},
		`{"a":"\udc00\ud83d"}`:       {"a", "half a surrogate pair"},
		`{"a":1,"\u0061":2}`:         {"a", "is there twice"}, // the same name, written otherwise
		"{\"a\\nb\":1,\"a\\nb\":1}":  {`a\nb`, "is there twice"},
	} {
		_, err := input.Object([]byte(body), example)
		refused(t, err, c.field, c.text)
	}
}

// What is well-formed stays what it is, also a U+FFFD that somebody means.
func TestTextsOfAnyLanguage(t *testing.T) {
	for written, want := range map[string]string{
		`mèl`: "mèl", `m\u00e8l`: "mèl", `\ud83d\udc1d`: "\U0001f41d", "\ufffd": "\ufffd", `\ufffd`: "\ufffd", `\\udce8`: `\udce8`, `\\\\`: `\\`,
	} {
		got, err := object(t, `{"a":"`+written+`"}`).Text("a")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestObject(t *testing.T) {
	require.Empty(t, object(t, " {} "))
	f := object(t, "{\"a\": {\"b\":[1]}, \"n\": 1e999}\n")
	require.JSONEq(t, `{"b":[1]}`, string(f["a"]), "a value is not touched")
	require.Equal(t, "1e999", string(f["n"]), "nor is a number that no float64 holds")
}

func TestOnly(t *testing.T) {
	f := object(t, `{"operation":"x","worker":"cpu","zz":1,"modle":2}`)
	require.NoError(t, f.Only("x", []string{"worker", "modle", "zz"}, "operation"))
	err := f.Only("worker_spawn", []string{"worker"}, "operation")
	require.ErrorIs(t, err, errdefs.ErrUnknownField)
	require.EqualError(t, err, "modle: is not a field of worker_spawn (its fields: worker)", "the first by name, each time")
	require.ErrorIs(t, f.Only("x", []string{"worker", "modle", "zz"}), errdefs.ErrUnknownField, "operation")
}

// What each kind of field takes; a field that is absent or null is zero.
func TestFields(t *testing.T) {
	text := func(f input.Fields) (any, error) { return f.Text("v") }
	boolean := func(f input.Fields) (any, error) { return f.Bool("v") }
	number := func(f input.Fields) (any, error) { return f.Number("v", 2, 10) }
	list := func(f input.Fields) (any, error) { return f.Strings("v") }
	port := func(f input.Fields) (any, error) { return input.Fields{"port": f["v"]}.Port() }
	for name, c := range map[string]struct {
		read    func(input.Fields) (any, error)
		value   string
		want    any
		refused string
	}{
		"a text":              {text, `"a"`, "a", ""},
		"an empty text":       {text, `""`, "", ""},
		"no text":             {text, `null`, "", ""},
		"a number as text":    {text, `5`, nil, "is 5; expected a string"},
		"true":                {boolean, `true`, true, ""},
		"false":               {boolean, `false`, false, ""},
		"no boolean":          {boolean, `null`, false, ""},
		"a text as boolean":   {boolean, `"true"`, nil, `is "true"; expected true or false`},
		"a number as boolean": {boolean, `1`, nil, "expected true or false"},
		"the least":           {number, `2`, uint64(2), ""},
		"the most":            {number, `10`, uint64(10), ""},
		"no number":           {number, `null`, uint64(0), ""},
		"too little":          {number, `1`, nil, "is 1; expected an integer from 2 to 10"},
		"too much":            {number, `11`, nil, "is 11; expected an integer"},
		"negative":            {number, `-3`, nil, "is -3"},
		"a fraction":          {number, `3.0`, nil, "is 3.0"},
		"an exponent":         {number, `1e1`, nil, "is 1e1"},
		"a text as number":    {number, `"3"`, nil, `is "3"`},
		"a port":              {port, `65535`, uint16(65535), ""},
		"no port":             {port, `null`, uint16(0), ""},
		"port 0":              {port, `0`, nil, "is 0; expected an integer from 1 to 65535"},
		"a port too high":     {port, `65536`, nil, "is 65536"},
		"a port as text":      {port, `"80"`, nil, `is "80"`},
		"a list":              {list, `["a","b"]`, []string{"a", "b"}, ""},
		"an empty list":       {list, `[]`, []string{}, ""},
		"no list":             {list, `null`, []string(nil), ""},
		"an empty member":     {list, `["a",""]`, nil, "expected a list of strings"},
		"a text as list":      {list, `"a"`, nil, "expected a list of strings"},
		"numbers in a list":   {list, `["a",1]`, nil, "expected a list of strings"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.read(object(t, `{"v":`+c.value+`}`))
			if c.refused != "" {
				field := "v"
				if strings.Contains(name, "port") {
					field = "port"
				}
				refused(t, err, field, c.refused)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	for name, read := range map[string]func(input.Fields) (any, error){"text": text, "bool": boolean, "number": number, "list": list} {
		got, err := read(input.Fields{})
		require.NoError(t, err, name)
		require.Zero(t, got, name)
	}
}

// A long value is not repeated to its end, nor a terminal changed by it.
func TestAWrongValueIsQuotedShort(t *testing.T) {
	_, err := object(t, `{"v":["`+strings.Repeat("x", 5000)+`"]}`).Text("v")
	require.ErrorContains(t, err, "...; expected a string")
	require.Less(t, len(err.Error()), 200)
}

func TestArgument(t *testing.T) {
	for v, text := range map[string]string{
		"":                        "",
		"model.gguf":              "",
		"a-b":                     "",
		"ä 日本":                    "",
		strings.Repeat("x", 4096): "",
		"-m":                      "may not begin with '-'",
		"--help":                  "may not begin with '-'",
		"~":                       `"~" begins with '~'`,
		"~/m.gguf":                `"~/m.gguf" begins with '~', which means a home directory only to a shell`,
		"~bob/m.gguf":             "write the path out",
		"./~/m.gguf":              "",
		"a\x1b[2J":                "control characters",
		"a\n":                     "control characters",
		"a\u202eb":                `\u202e`,
		"a\xff":                   "is not valid UTF-8",
		strings.Repeat("x", 4097): "longer than 4096 bytes",
	} {
		err := input.Argument(v)
		if text == "" {
			require.NoError(t, err, "%q", v)
		} else {
			require.ErrorContains(t, err, text, "%q", v)
		}
	}
}

func TestWorkerName(t *testing.T) {
	for v, ok := range map[string]bool{
		"a": true, "0": true, "cpu-1": true, "a-": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "A": false, "a_b": false, "a.b": false, "a b": false, "ä": false, "a\n": false, strings.Repeat("a", 64): false,
	} {
		if err := input.WorkerName(v); ok {
			require.NoError(t, err, "%q", v)
		} else {
			require.ErrorContains(t, err, "expected at most 63 of a-z", "%q", v)
		}
	}
}
