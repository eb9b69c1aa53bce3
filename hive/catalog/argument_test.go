package catalog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rbeehive/hive/catalog"
)

// What was seen: functions of a template took a flag out of the middle of a model.
func TestNoModelBecomesAFlag(t *testing.T) {
	c, err := catalog.New([]catalog.Entry{{Name: "tabbyapi", Dir: "/opt/tabby"}}, self)
	require.NoError(t, err)
	for _, tc := range []struct{ typ, model, arg string }{
		{"tabbyapi", "x/--trust-remote", `"--trust-remote"`},
		{"tabbyapi", "./-x/y", `"-x"`},
		{"tabbyapi", "/m/exl3/-x/", `"-x"`},
	} {
		typ, _ := c.Type(tc.typ)
		v := catalog.Values{Port: 8080, Model: tc.model, WorkerID: "w"}
		err := typ.Check(v)
		require.ErrorIs(t, err, catalog.ErrFlag, "%v", tc)
		require.ErrorContains(t, err, "would become a flag of worker type "+tc.typ+": "+tc.arg+" begins with '-' by a value and not by its template")
		var value *catalog.ValueError
		require.ErrorAs(t, err, &value)
		require.Equal(t, "model", value.Field)
		_, err = typ.Render(v)
		require.ErrorIs(t, err, catalog.ErrRender, "%v: also where nobody asked before", tc)
		_, err = typ.Plan(v)
		require.ErrorIs(t, err, catalog.ErrRender)
	}
	// Not a model of the hub, and so one argument that names no file.
	llama, _ := c.Type("llama-server")
	for _, model := range []string{"u/r:-x.gguf", "u/r:..gguf", "u/..", "u/-r", "u/r:"} {
		spec, err := llama.Render(catalog.Values{Port: 8080, Model: model})
		require.NoError(t, err)
		require.Equal(t, []string{"-m", model, "--alias", model}, spec.Argv[len(spec.Argv)-4:])
	}
}

// Every preset, given every odd model, either refuses it or has no flag but its own.
func TestPresetsUnderAttack(t *testing.T) {
	models := append([]string{
		"x/--trust-remote-code", "x/-y", "u/r:-x.gguf", "u/r:--x.gguf", "./-x/y", "/m/-x", "/m/-x/", "-x/../-y", "a/b/-c/", "x/..", "/", "//-x", "/-x", "a:-b", "\\-x",
		"hf://x", "https://example.org/-x", "x\u2010y", " -x", "x/ -y", "x/+y", "x/@y",
	}, injections...)
	for _, preset := range presetNames {
		typ := one(t, catalog.Entry{Name: "x", Preset: preset, Dir: "/opt/x"})
		flags := func(model, device string) (list []string) {
			spec, err := typ.Render(catalog.Values{Port: 8080, WorkerID: "w", Model: model, Device: device})
			if err != nil {
				return nil
			}
			for _, arg := range spec.Argv {
				if strings.HasPrefix(arg, "-") {
					flag, _, _ := strings.Cut(arg, "=")
					list = append(list, flag)
				}
			}
			return list
		}
		own := map[string]bool{}
		for _, device := range []string{"", "0", "cpu"} {
			for _, model := range []string{"/m/q", "/m/q.gguf", "u/r", "u/r:q.gguf", "word"} {
				for _, flag := range flags(model, device) {
					own[flag] = true
				}
			}
			for _, model := range models {
				for _, flag := range flags(model, device) {
					require.True(t, own[flag], "%s has the flag %s by the model %q", preset, flag, model)
				}
			}
		}
		require.Greater(t, len(own), 2)
	}
}

// Templates whose own text is a flag work as before; whatever else begins with '-'
// does not.
func TestFlagsAreTheTemplates(t *testing.T) {
	e := func(arg string) catalog.Entry {
		return catalog.Entry{Name: "x", Command: []string{"p", arg, "end"}, Model: "u/r:q.gguf", Params: map[string]catalog.ParamEntry{"p": given("", ".*"), "q": given("w", ".*")}}
	}
	const model = "a/-b"
	v := catalog.Values{Port: 8080, Model: model, Device: "0", Name: "n", Params: map[string]string{"p": "-5"}}
	for arg, want := range map[string]string{
		"-x":                   "-x",
		"--device={{.Device}}": "--device=0",
		"{{if .Device}}--device={{.Device}}{{end}}":              "--device=0",
		"{{with .Model}}--model={{.}}{{end}}":                    "--model=a/-b",
		"{{if .Device}}{{if .Model}}-hf{{end}}{{else}}-m{{end}}": "-hf",
		"{{/* a comment */}}-x":                                  "-x",
		"{{$d := .Device}}--d={{$d}}":                            "--d=0",
		"{{range .Ports}}-p{{.}}{{end}}":                         "-p8080",
		`{{printf "--device=%s" .Device}}`:                       "--device=0",
		`{{.Device | printf "-d%s"}}`:                            "-d0",
		`{{print "--m=" .Model}}`:                                "--m=a/-b",
		`{{"--cpu"}}`:                                            "--cpu",
		`{{if eq .Device "0"}}{{"--gpu"}}{{end}}`:                "--gpu",
		`{{define "f"}}--f={{.}}{{end}}{{template "f" .Model}}`:  "--f=a/-b",
		"{{.Model}}":               model,
		"x{{base .Model}}":         "x-b",
		"{{.Device}}{{.Params.p}}": "0-5",
	} {
		typ := one(t, e(arg))
		require.NoError(t, typ.Check(v), arg)
		spec, err := typ.Render(v)
		require.NoError(t, err, arg)
		require.Equal(t, []string{"p", want, "end"}, spec.Argv, arg)
	}
	for arg, field := range map[string]string{
		"{{base .Model}}":                                      "model",
		"{{ .Model | base }}":                                  "model",
		"{{with .Model}}{{base .}}{{end}}":                     "model",
		"{{$m := base .Model}}{{$m}}":                          "model",
		"{{.Params.p}}":                                        "params.p",
		"{{.Params.p}}x":                                       "params.p",
		"{{if .Model}}{{.Params.p}}{{end}}":                    "params.p",
		"{{range .Ports}}{{$.Params.p}}{{end}}":                "params.p",
		`{{with ""}}{{else}}{{.Params.p}}{{end}}`:              "params.p",
		`{{printf "%s" .Params.p}}`:                            "params.p",
		`{{print .Params.p}}`:                                  "params.p",
		`{{or .Params.p "x"}}`:                                 "params.p",
		`{{slice .Model 2}}`:                                   "model",
		`{{index .Params "p"}}`:                                "params.p",
		`{{define "f"}}{{.}}{{end}}{{template "f" .Params.p}}`: "params.p",
		`{{block "b" .}}{{.Params.p}}{{end}}`:                  "params.p",
		`{{hubFile "u/r"}}{{.Params.p}}`:                       "params.p",
		// The text is the template's, but it was to stand behind something.
		`{{hubFile .Model}}-x`:                             "",
		`{{hubFile .Model}}{{hubRepo .Model}}-{{.Device}}`: "",
	} {
		entry := e(arg)
		typ := one(t, entry)
		err := typ.Check(v)
		require.ErrorIs(t, err, catalog.ErrFlag, arg)
		var value *catalog.ValueError
		require.ErrorAs(t, err, &value, arg)
		require.Equal(t, field, value.Field, arg)
		_, err = typ.Render(v)
		require.ErrorIs(t, err, catalog.ErrRender, arg)
		for _, more := range []catalog.Entry{
			{Name: "x", Command: []string{"p"}, Model: entry.Model, Params: entry.Params, BeforeStart: []string{"q", arg}},
			{Name: "x", Command: []string{"p"}, Model: entry.Model, Params: entry.Params, Stop: catalog.StopEntry{Command: []string{"q", arg}}},
			{Name: "x", Command: []string{"p"}, Model: entry.Model, Params: entry.Params, Args: []string{arg}},
		} {
			require.ErrorIs(t, one(t, more).Check(v), catalog.ErrFlag, "%s in %+v", arg, more)
		}
		_, err = one(t, catalog.Entry{Name: "x", Command: []string{"p"}, Model: entry.Model, Params: entry.Params, BeforeStart: []string{"q", arg}}).Hook(v)
		require.ErrorIs(t, err, catalog.ErrRender, arg)
	}
}

// What an entry itself gets wrong in this way is told when it is read.
func TestAFlagThatAnEntryComputes(t *testing.T) {
	_, err := catalog.New([]catalog.Entry{{Name: "x", Command: []string{"p", `{{or "" "--x"}}`}}}, self)
	require.ErrorIs(t, err, catalog.ErrEntry)
	require.ErrorContains(t, err, `workers[0] (x): command[1]: "--x" begins with '-' by a value and not by its template, so that a program would take it for a flag; write flags in the template itself`)
	_, err = catalog.New([]catalog.Entry{{Name: "x", Command: []string{"p", `{{printf "--x=%s" .Device | base}}`}}}, self)
	require.ErrorContains(t, err, `workers[0] (x): command[1]: "--x=0" begins with '-' by a value`)
	_, err = catalog.New([]catalog.Entry{{Name: "x", Command: []string{"p", `{{_printed .Port}}`}}}, self)
	require.ErrorContains(t, err, `function "_printed" not defined`, "templates know nothing of how they are watched")
}

// No composition of the functions and texts makes a flag of what a caller gave. A text
// that begins with '-' is only ever the beginning of its own template.
func TestArgumentsBeginAsTheirTemplates(t *testing.T) {
	pieces := []string{
		"{{.Model}}", "{{base .Model}}", "{{dir .Model}}", "{{hubFile .Model}}", "{{hubRepo .Model}}", "{{.Params.p}}", "{{.Name}}", "{{if .Name}}{{.Params.p}}{{end}}",
		"{{with .Params.p}}{{.}}{{end}}", "{{$x := .Params.p}}{{$x}}", `{{printf "%s" .Model}}`, `{{.Params.p | printf "%.2s"}}`, "x", "/", "=",
	}
	values := []string{"", "-", "--x", "a/-b", "a/--b/", "u/r:-x.gguf", "./-x", "x", "/-", "a-b"}
	rapid.Check(t, func(t *rapid.T) {
		arg := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 4).Draw(t, "pieces"), "")
		e := catalog.Entry{Name: "x", Command: []string{"p", arg}, Params: map[string]catalog.ParamEntry{"p": given("", "(?s).*")}}
		c, err := catalog.New([]catalog.Entry{e}, self)
		if err != nil {
			t.Skip(err)
		}
		typ, _ := c.Type("x")
		v := catalog.Values{
			Port: 8080, Model: rapid.SampledFrom(values).Draw(t, "model"), Name: rapid.SampledFrom(values).Draw(t, "name"),
			Params: map[string]string{"p": rapid.SampledFrom(values).Draw(t, "param")},
		}
		spec, err := typ.Render(v)
		if err == nil && len(spec.Argv) > 1 && strings.HasPrefix(spec.Argv[1], "-") {
			t.Fatalf("%s became %q", arg, spec.Argv[1])
		}
	})
}

func TestArgumentsAreBounded(t *testing.T) {
	const most = 131071
	for arg, ok := range map[string]bool{
		strings.Repeat("x", most):                        true,
		strings.Repeat("x", most+1):                      false,
		fmt.Sprintf(`{{printf "%%%ds" ""}}`, most):       true,
		fmt.Sprintf(`{{printf "%%%ds" ""}}`, most+1):     false,
		"{{range 100}}x{{end}}":                          true,
		"{{range 1000000000000}}x{{end}}":                false,
		"{{range 1000000000000}}{{end}}":                 false,
		"{{range 1000000000000}}{{$x := 1}}{{end}}":      false,
		"{{range 1000000000000}}{{continue}}{{end}}":     false,
		"{{range 100000}}{{range 100000}}{{end}}{{end}}": false,
		"{{range 1000000000000}}{{break}}{{end}}x":       true,
		`{{define "f"}}{{if .}}{{template "f" slice . 1}}{{template "f" slice . 1}}{{end}}{{end}}{{template "f" "` + strings.Repeat("x", 40) + `"}}`: false,
		`{{define "f"}}{{template "f" .}}{{end}}{{template "f" .}}`:                                                                                  false,
	} {
		begin := time.Now()
		_, err := catalog.New([]catalog.Entry{{Name: "x", Command: []string{"p", arg}}}, self)
		require.Less(t, time.Since(begin), 10*time.Second)
		short := arg[:min(len(arg), 80)]
		if ok {
			require.NoError(t, err, short)
			continue
		}
		require.ErrorIs(t, err, catalog.ErrEntry, short)
		if !strings.HasPrefix(arg, `{{define "f"}}{{template`) { // text/template has a bound of its own for that
			require.ErrorContains(t, err, "command[1]: is longer than 131071 bytes, the most that Linux takes as one argument, or loops more than 65536 times", short)
		}
	}
	// What fits when the configuration is read may not fit a spawn.
	typ := one(t, catalog.Entry{Name: "x", Command: []string{"p", "{{range 100}}{{$.Model}}{{end}}"}})
	_, err := typ.Render(catalog.Values{Port: 8080, Model: strings.Repeat("m", 4096)})
	require.ErrorIs(t, err, catalog.ErrRender)
	require.ErrorContains(t, err, "longer than 131071 bytes")
}

// Commands of one type are made at the same time.
func TestRenderConcurrently(t *testing.T) {
	typ := one(t, catalog.Entry{Name: "x", Command: []string{"p", "{{base .Model}}", `{{define "f"}}{{.}}{{end}}{{template "f" .Name}}`}})
	done := make(chan error)
	for i := range 8 {
		go func() {
			var err error
			for range 200 {
				model := fmt.Sprintf("m%d", i)
				if i%2 == 0 {
					model = "a/-x"
				}
				spec, wrong := typ.Render(catalog.Values{Port: 8080, Model: model, Name: model})
				if i%2 == 0 && wrong == nil || i%2 == 1 && (wrong != nil || spec.Argv[1] != model || spec.Argv[2] != model) {
					err = fmt.Errorf("model %s: %v, %w", model, spec.Argv, wrong)
				}
			}
			done <- err
		}()
	}
	for range 8 {
		require.NoError(t, <-done)
	}
}
