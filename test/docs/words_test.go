package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// renamed are words that this project once had to itself, and what is said instead.
// docs/glossary.md says what the new ones mean here. Only words are here that mean
// nothing else in a name: "judge" and "lines" cannot be told from their plain use.
var renamed = map[string]string{
	"at once":      "max, as in maxSpawns",
	"attend to":    "superviseProcess",
	"await looks":  "awaitFirstProbes",
	"blame port":   "detectPortConflict",
	"bring down":   "terminate",
	"buryable":     "prunable",
	"care":         "warning, and issue for what hivectl status lists",
	"cares":        "warnings, issues",
	"chase":        "scanNewborn",
	"doubt":        "recheck",
	"embody":       "attach",
	"end rest":     "killLeftovers",
	"enlist":       "add",
	"finale":       "finalChecks",
	"glance":       "poll interval",
	"hear hangups": "handleSIGHUP",
	"ledger":       "recoverySet",
	"lessee":       "externalLease",
	"lessees":      "externalLeases",
	"let go":       "close",
	"look around":  "postStartChecks",
	"nudge":        "wake",
	"passed over":  "skippedPorts",
	"patience":     "timeout",
	"roster":       "registry",
	"say goodbye":  "printExit",
	"say hello":    "printBanner",
	"settle in":    "track",
	"sighting":     "probeResult",
	"start again":  "restartProcess",
	"start over":   "tryRestart",
	"stood still":  "suspendThreshold",
	"stray":        "orphan",
	"strays":       "orphans",
	"surroundings": "startEnv",
	"take back":    "adopt",
	"takes effect": "markEffective",
	"tell new":     "emitNewFindings",
	"unsettle":     "resetStarted",
	"wait out":     "waitBackoff",
	"when settled": "started",
	"yard":         "harness",
}

// unread are packages whose names are not looked at yet. A package that has none of the
// old words does not belong here.
var unread = []string{}

// inDocuments are those of renamed that a document does not say either.
var inDocuments = []string{"lessee", "lessees", "nudge", "roster", "stray", "strays"}

// history are documents that may speak of what was.
var history = regexp.MustCompile(`CHANGELOG\.md$|/adr/`)

var prose = regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)`) // the name of a test is a sentence

// wordsOf splits a name: HTTPCareOf is http, care and of.
func wordsOf(name string) (words []string) {
	runes := []rune(name)
	from := 0
	for i := 1; i <= len(runes); i++ {
		switch {
		case i == len(runes):
		case runes[i] == '_':
		case unicode.IsUpper(runes[i]) && !unicode.IsUpper(runes[i-1]):
		case unicode.IsUpper(runes[i]) && i+1 < len(runes) && unicode.IsLower(runes[i+1]):
		default:
			continue
		}
		words = append(words, strings.ToLower(strings.Trim(string(runes[from:i]), "_")))
		from = i
	}
	return words
}

// oldWords are the words of renamed that are in a name, as in spawnsAtOnce.
func oldWords(name string) (old []string) {
	words := " " + strings.Join(wordsOf(name), " ") + " "
	for _, word := range slices.Sorted(maps.Keys(renamed)) {
		if strings.Contains(words, " "+word+" ") {
			old = append(old, word)
		}
	}
	return old
}

// oldNames are the names with old words in a file of Go.
func oldNames(t *testing.T, file string, src any) (names []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, src, 0)
	require.NoError(t, err)
	ast.Inspect(f, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && !prose.MatchString(id.Name) && len(oldWords(id.Name)) > 0 {
			names = append(names, id.Name)
		}
		return true
	})
	slices.Sort(names)
	return slices.Compact(names)
}

func TestOldWordsDoNotComeBackInCode(t *testing.T) {
	old := map[string]map[string][]string{} // by package and file
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".gen.go") {
			return nil
		}
		files++
		if names := oldNames(t, path, nil); len(names) > 0 {
			pkg := filepath.Dir(strings.TrimPrefix(path, root+"/"))
			if old[pkg] == nil {
				old[pkg] = map[string][]string{}
			}
			old[pkg][filepath.Base(path)] = names
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, files, 300)
	for _, pkg := range unread {
		if old[pkg] == nil {
			t.Errorf("%s has no old words: take it off the list of unread", pkg)
		}
		delete(old, pkg)
	}
	for pkg, files := range old {
		for file, names := range files {
			for _, name := range names {
				for _, word := range oldWords(name) {
					t.Errorf("%s/%s: %s: %q is now %s", pkg, file, name, word, renamed[word])
				}
			}
		}
	}

	for name, want := range map[string][]string{
		"lessee": {"lessee"}, "letGoOfLessees": {"lessees", "let go"}, "spawnsAtOnce": {"at once"}, "gatePatience": {"patience"},
		"Sightings": nil, "careful": nil, "scare": nil, "HTTPCare": {"care"}, "atOnce": {"at once"},
	} {
		require.ElementsMatch(t, want, oldWords(name), name)
	}
	require.Equal(t, []string{"yardOf"}, oldNames(t, "x.go", "package x\nfunc yardOf() {}\nfunc TestYard() {}\n// yard\n"))
}

func TestOldWordsDoNotComeBackInDocuments(t *testing.T) {
	old := regexp.MustCompile(`(?i)\b(` + strings.Join(inDocuments, "|") + `)\b`)
	for _, file := range documents(t) {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		if !history.MatchString(file) {
			require.Empty(t, old.FindAllString(string(raw), -1), file)
		}
	}
	for _, word := range inDocuments {
		require.Contains(t, renamed, word)
	}
	require.True(t, old.MatchString("The lessee has ended."))
}
