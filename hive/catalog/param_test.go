package catalog_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
)

// given is an entry's parameter as a mapping; empty texts are not given.
func given(value, pattern string) catalog.ParamEntry {
	var p catalog.ParamEntry
	if value != "" {
		p.Default = &value
	}
	if pattern != "" {
		p.Pattern = &pattern
	}
	return p
}

// withParam is a type whose command has the parameter p.
func withParam(t *testing.T, p catalog.ParamEntry) *catalog.Type {
	t.Helper()
	return one(t, catalog.Entry{Name: "web", Command: []string{"web", "--p={{.Params.p}}"}, Params: map[string]catalog.ParamEntry{"p": p}})
}

func setting(value string) catalog.Values {
	return catalog.Values{Port: 8080, Params: map[string]string{"p": value}}
}

func TestClassesOfParameters(t *testing.T) {
	fixed := ptr(true)
	for name, tc := range map[string]struct {
		param    catalog.ParamEntry
		fixed    bool
		pattern  string
		yes, not []string
	}{
		"a word":           {given("4096", ""), false, word, []string{"8192", "Q4_K_M", "0.10", "v1-5", "true"}, injections},
		"nothing":          {catalog.ParamEntry{}, false, word, []string{"", "8192"}, injections},
		"an empty text":    {catalog.ParamEntry{Default: ptr("")}, false, word, []string{"", "8192"}, injections},
		"a path":           {given("/srv/www", ""), true, "", nil, append(injections, "/srv/www", "a", "")},
		"words":            {given("a b", ""), true, "", nil, append(injections, "a b", "")},
		"a pattern":        {given("4096", "[0-9]+"), false, "[0-9]+", []string{"1", "4096"}, append(injections, "", "a", "1a", "a1", "1\n")},
		"alternatives":     {given("on", "on|off"), false, "on|off", []string{"on", "off"}, []string{"", "onoff", "xoff", "onx", "o"}},
		"a shorter first":  {given("", "a|ab"), false, "a|ab", []string{"", "a", "ab"}, []string{"abc", "b"}},
		"a broken group":   {given("", `\Qa`), false, `\Qa`, []string{"a"}, []string{"ab", `\Qa`}},
		"lines":            {given("", "(?m)^[a-z]+$"), false, "(?m)^[a-z]+$", []string{"a"}, []string{"a\nb"}},
		"no greed":         {given("", "a+?"), false, "a+?", []string{"a", "aaa"}, []string{"ab"}},
		"paths, by choice": {given("/srv/a", "/srv/[a-z]+"), false, "/srv/[a-z]+", []string{"/srv/b"}, []string{"/srv/../etc", "/srv/", "/etc"}},
		"fixed":            {catalog.ParamEntry{Default: ptr("4096"), Fixed: fixed}, true, "", nil, append(injections, "4096", "1")},
		"not fixed":        {catalog.ParamEntry{Default: ptr("4096"), Fixed: ptr(false)}, false, word, []string{"1"}, injections},
	} {
		t.Run(name, func(t *testing.T) {
			typ := withParam(t, tc.param)
			p := typ.Params["p"]
			require.Equal(t, tc.fixed, p.Fixed)
			require.Equal(t, tc.pattern, p.Pattern)
			for _, value := range tc.yes {
				require.NoError(t, typ.Check(setting(value)), "%q", value)
				spec, err := typ.Render(setting(value))
				require.NoError(t, err)
				require.Equal(t, []string{"web", "--p=" + value}, spec.Argv)
			}
			for _, value := range tc.not {
				err := typ.Check(setting(value))
				require.ErrorIs(t, err, catalog.ErrBadParam, "%q", value)
				var v *catalog.ValueError
				require.ErrorAs(t, err, &v)
				require.Equal(t, "params.p", v.Field)
				_, err = typ.Render(setting(value))
				require.ErrorIs(t, err, catalog.ErrBadParam, "%q: a new start of a worker asks again", value)
			}
			// What the entry says is not asked.
			_, err := typ.Render(catalog.Values{Port: 8080})
			require.NoError(t, err)
		})
	}
}

// word is the pattern of what an entry says nothing about.
const word = `[A-Za-z0-9][A-Za-z0-9._-]*`

// injections are values that a flag, a path, a shell, a list or a configuration file
// would make something of.
var injections = []string{
	"-x", "--trust-remote-code", "/etc/shadow", "../x", "~root", "@/etc/shadow", "a b", "a\tb", "a\nb", "a;id", "a$(id)", "a`id`", "$HOME", "a'b", `a"b`, `a\b`,
	"a{b", "a}b", "{{.Port}}", "a#b", "a&b", "a|b", "a>b", "a<b", "a*b", "a?b", "a!b", "a=b", "a,b", "a:b", "a%b", "a(b", "a/b", "ä", "a\x00b", "a\u2028b", "a\u202eb", ".", "..", "_",
}

func TestParametersOfAPresetKeepTheirClass(t *testing.T) {
	entry := func(preset string, params map[string]catalog.ParamEntry) *catalog.Type {
		return one(t, catalog.Entry{Name: "x", Preset: preset, Params: params, Dir: "/opt/x"})
	}
	base := func(p catalog.ParamEntry) map[string]catalog.ParamEntry {
		return map[string]catalog.ParamEntry{"base_directory": p}
	}
	require.True(t, entry("comfyui", base(given("word", ""))).Params["base_directory"].Fixed)
	require.True(t, entry("comfyui", nil).Params["main"].Fixed)
	opened := entry("comfyui", base(given("/srv/a", "/srv/[a-z]+"))).Params["base_directory"]
	require.Equal(t, "/srv/[a-z]+", opened.Pattern)
	require.False(t, opened.Fixed)

	nccl := entry("sglang", map[string]catalog.ParamEntry{"nccl_port": given("30500", "")}).Params["nccl_port"]
	require.Equal(t, "30500", nccl.Default)
	require.Equal(t, one(t, catalog.Entry{Name: "x", Preset: "tei"}).Params["prometheus_port"].Pattern, nccl.Pattern)
	require.True(t, entry("sglang", map[string]catalog.ParamEntry{"nccl_port": {Default: ptr("30500"), Fixed: ptr(true)}}).Params["nccl_port"].Fixed)
}

func TestPortsAreUnprivilegedOnes(t *testing.T) {
	typ := one(t, catalog.Entry{Name: "x", Preset: "tei"})
	check := func(port string) error {
		return typ.Check(catalog.Values{Model: "m", Params: map[string]string{"prometheus_port": port}})
	}
	for _, port := range []string{"", "0", "1024", "1025", "1029", "1030", "1099", "1100", "1999", "2000", "9999", "10000", "59999", "60000", "64999", "65000", "65499", "65500", "65529", "65530", "65535"} {
		require.NoError(t, check(port), port)
	}
	for _, port := range []string{"1", "80", "443", "999", "1000", "1023", "01024", "65536", "65540", "65600", "66000", "70000", "99999", "100000", "-1", "8080x", "0x50", " 8080", "00"} {
		require.ErrorIs(t, check(port), catalog.ErrBadParam, port)
	}
}

// Every parameter of every preset that is code or a path is fixed, and no value of an
// injection gets into any other.
func TestNoParameterOfAPresetTakesCode(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	fixed := map[string]bool{}
	for _, name := range presetNames {
		// Unlike the type of its name it can be started.
		typ := one(t, catalog.Entry{Name: "x", Preset: name, Dir: "/opt/x", Model: "m"})
		builtin, _ := c.Type(name)
		require.Len(t, typ.Params, len(builtin.Params))
		for key, p := range typ.Params {
			fixed[name+"."+key] = p.Fixed
			for _, value := range injections {
				v := catalog.Values{Params: map[string]string{key: value}}
				require.ErrorIs(t, typ.Check(v), catalog.ErrBadParam, "%s.%s=%q", name, key, value)
			}
		}
	}
	require.Equal(t, map[string]bool{
		"comfyui.main": true, "comfyui.base_directory": true, "tabbyapi.main": true,
		"sglang.nccl_port": false, "tei.prometheus_port": false, "rbee-sd.sd_version": false,
	}, fixed)
}

func TestWrongParameters(t *testing.T) {
	for name, tc := range map[string]struct {
		preset string
		param  catalog.ParamEntry
		want   string
	}{
		"bad regexp":           {"", given("1", "[0-9"), "params.p.pattern: \"[0-9\": expected a regular expression that the whole of a value matches, such as [0-9]+ (error parsing regexp: missing closing ]: `[0-9`)"},
		"a group that ends":    {"", given("a", "a)|(b"), `params.p.pattern: "a)|(b": expected a regular expression`},
		"backtracking":         {"", given("a", `(a)\1`), `params.p.pattern: "(a)\\1": expected a regular expression`},
		"empty pattern":        {"", catalog.ParamEntry{Pattern: ptr("")}, `params.p.pattern: "": expected a regular expression that the whole of a value matches, such as [0-9]+ (it is empty)`},
		"a line end":           {"", given("", "a\nb"), `params.p.pattern: "a\nb": expected a regular expression that the whole of a value matches, such as [0-9]+ (it has a control character)`},
		"not of its pattern":   {"", given("big", "[0-9]+"), `params.p.default: "big" does not match its pattern [0-9]+ as a whole; give the parameter another pattern, or fixed: true`},
		"half of its pattern":  {"", given("1k", "[0-9]+"), `params.p.default: "1k" does not match its pattern [0-9]+ as a whole`},
		"fixed and a pattern":  {"", catalog.ParamEntry{Pattern: ptr("a"), Fixed: ptr(true)}, "params.p.pattern: contradicts fixed: what only the configuration sets needs no pattern; remove one of them"},
		"not fixed, and path":  {"", catalog.ParamEntry{Default: ptr("/x"), Fixed: ptr(false)}, `params.p.default: "/x" does not match its pattern ` + word},
		"a flag":               {"", given("-x", ""), `params.p: "-x" begins with '-': a program would take it for a flag; write flags in args`},
		"a flag of a mapping":  {"", given("-x", ".*"), `params.p.default: "-x" begins with '-'`},
		"control character":    {"", given("a\x1bb", ""), `params.p: "a\x1bb" has control characters`},
		"a preset's pattern":   {"sglang", given("80", ""), `params.nccl_port: "80" does not match its pattern `},
		"a preset's, unfixed":  {"comfyui", catalog.ParamEntry{Fixed: ptr(false)}, "params.main.fixed: false needs a pattern: the preset does not say which values a spawn may give"},
		"a preset's and both":  {"comfyui", catalog.ParamEntry{Fixed: ptr(true), Pattern: ptr("a")}, "params.main.pattern: contradicts fixed"},
		"a pattern, unmatched": {"comfyui", given("", "/srv/.*"), `params.main.default: "main.py" does not match its pattern /srv/.* as a whole`},
	} {
		t.Run(name, func(t *testing.T) {
			e := catalog.Entry{Name: "web", Command: []string{"web"}, Params: map[string]catalog.ParamEntry{"p": tc.param}}
			if tc.preset != "" {
				key := map[string]string{"sglang": "nccl_port", "comfyui": "main"}[tc.preset]
				e = catalog.Entry{Name: "web", Preset: tc.preset, Params: map[string]catalog.ParamEntry{key: tc.param}}
			}
			_, err := catalog.New([]catalog.Entry{e}, self)
			require.ErrorIs(t, err, catalog.ErrEntry)
			require.ErrorContains(t, err, "workers[0] (web): "+tc.want)
			require.NotContains(t, err.Error(), "\n", "one line")
		})
	}
}

// A pattern is linear in the value: no caller can make hive think for long.
func TestPatternsDoNotBacktrack(t *testing.T) {
	typ := withParam(t, given("", "(a|aa|a?a)*"))
	require.NoError(t, typ.Check(setting(strings.Repeat("a", 4096))))
	require.ErrorIs(t, typ.Check(setting(strings.Repeat("a", 4095)+"b")), catalog.ErrBadParam)
}
