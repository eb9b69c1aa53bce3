//go:build linux

package attack_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// nginx stands in for nginx, which is not always installed: it reads the configuration as
// nginx does, makes the files that are named in it, and serves where it says. It is
// started as `nginx -e stderr -c FILE`.
func nginx(args []string) int {
	text, err := os.ReadFile(args[len(args)-1])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	listen := ""
	for _, d := range directives(text) {
		switch {
		case d[0] == "listen" && len(d) > 1:
			listen = d[1]
		case (d[0] == "access_log" || d[0] == "error_log" || d[0] == "pid") && len(d) > 1 && !strings.HasPrefix(d[1], "/dev/"):
			if f, err := os.OpenFile(d[1], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err == nil {
				f.Close()
			}
		}
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return status(http.Serve(l, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
}

// directives splits a configuration of nginx into its directives: words with or
// without quotes, in which a backslash takes its meaning from the next character, up
// to a ; or a brace.
func directives(text []byte) (all [][]string) {
	var words []string
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\n', '\r':
		case ';', '{', '}':
			if len(words) > 0 {
				all = append(all, words)
			}
			words = nil
		case '"', '\'':
			var word []byte
			for i++; i < len(text) && text[i] != c; i++ {
				if text[i] == '\\' && i+1 < len(text) {
					i++
				}
				word = append(word, text[i])
			}
			words = append(words, string(word))
		default:
			var word []byte
			for ; i < len(text) && !bytes.ContainsRune([]byte(" \t\n\r;{}"), rune(text[i])); i++ {
				if text[i] == '\\' && i+1 < len(text) {
					i++
				}
				word = append(word, text[i])
			}
			i--
			words = append(words, string(word))
		}
	}
	return all
}

// The examples are copied: what a spawn may set in them is neither code nor the name of
// a file, whoever may start workers.
func TestParametersOfTheExamples(t *testing.T) {
	files, err := filepath.Glob("../../docs/examples/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	tried := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var example struct {
			Workers []struct {
				Name   string
				Params map[string]any
			}
		}
		require.NoError(t, yaml.Unmarshal(text, &example))
		for _, entry := range example.Workers {
			for param := range entry.Params {
				tried++
				t.Run("root's rights through "+param+" of "+entry.Name+" in "+filepath.Base(file), func(t *testing.T) {
					attackExample(t, string(text), entry.Name, param)
				})
			}
		}
	}
	require.NotZero(t, tried, "no example has a parameter")
}

func attackExample(t *testing.T, config, typ, param string) {
	s := newSite(t, config)
	require.NoError(t, os.Symlink(binary("nginx"), s.dir+"/bin/nginx"))
	s.script("llama-server", "exec "+binary("server")+` -port "$4"`) // --host H --port P
	s.start()
	taken := s.dir + "/taken"
	served := s.homeOf(s.root(), "public")
	if typ == "nginx" { // as it is meant
		r := s.root().job("worker_spawn", map[string]any{"worker": typ, "name": "meant"})
		require.Equal(t, "succeeded", s.jobState(r), "%s", r)
	}
	for _, value := range []string{
		served + "; access_log " + taken, served + "; } } error_log " + taken + "; x { y { z a",
		served + "\"; access_log " + taken + "; x \"", served + "'; access_log " + taken + "; x '", served + `\"; access_log ` + taken + `; x "`,
		"$(touch " + taken + ")", "`touch " + taken + "`", "x; touch " + taken + ";", "x' ; touch " + taken + " ; '", `x" ; touch ` + taken + ` ; "`,
		"EOF", "{{.Hive}}", "--flag", "-", "/etc", "/",
	} {
		s.root().job("worker_spawn", map[string]any{"worker": typ, "params": map[string]string{param: value}})
		require.Equal(t, -1, ownerOf(taken), "%s=%s has made a file of root's", param, value)
	}
}
