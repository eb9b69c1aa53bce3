package docs_test

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
)

// A step is one command of a document, with what it says the command prints; or a
// file that the reader is to write.
type step struct {
	line    int // in the document
	command string
	file    string   // the name, from the comment in the first line of a block of YAML
	text    string   // of the file
	output  []string // lines
}

var block = regexp.MustCompile("(?ms)^```(console|yaml)\n(.*?)^```$")

// steps reads the fenced blocks of a document: in one of "console" a line that begins
// with "$ " is a command and the others are its output; one of "yaml" that begins with
// "# NAME" is a file.
func steps(doc string) (all []step) {
	for _, at := range block.FindAllStringSubmatchIndex(doc, -1) {
		kind, body := doc[at[2]:at[3]], doc[at[4]:at[5]]
		line := strings.Count(doc[:at[4]], "\n") + 1
		if kind == "yaml" {
			if name, _, ok := strings.Cut(strings.TrimPrefix(body, "# "), "\n"); ok && strings.HasPrefix(body, "# ") {
				all = append(all, step{line: line, file: name, text: body})
			}
			continue
		}
		for i, text := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
			if command, ok := strings.CutPrefix(text, "$ "); ok {
				all = append(all, step{line: line + i, command: command})
			} else if len(all) > 0 {
				all[len(all)-1].output = append(all[len(all)-1].output, text)
			}
		}
	}
	return all
}

// What of a line is another in each run. The named groups are the same wherever the
// document has the same: the process that `up` starts is the one that `ps` shows.
var varies = regexp.MustCompile(strings.Join([]string{
	`(?P<job>job-)?(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})`,
	`(?P<worker>\b[a-z]+-\d+-[a-z0-9]{6}\b)`,
	`(?P<iso>\d{4}-\d\d-\d\dT[\d:.]+Z)`,
	`(?P<clock>\b\d\d:\d\d:\d\d(?:\.\d+)?)`,
	`(?P<date>\b\d\d/[A-Z][a-z]{2}/\d{4}\b)`,
	`(?P<span>\b[\d.]+(?:µs|ms|s|m)\b)`,
	`(?P<number>\b\d{4,}\b)`,
}, "|"))

// loose are the patterns of what has no identity.
var loose = map[string]string{
	"iso":   `\d{4}-\d\d-\d\dT[\d:.]+Z`,
	"clock": `\d\d:\d\d:\d\d(?:\.\d+)?`,
	"date":  `\d\d/[A-Z][a-z]{2}/\d{4}`,
	"span":  `[\d.]+(?:µs|ms|s|m)`,
}

// transcript compares what is printed with what a document says.
type transcript struct {
	fixed map[string]bool   // numbers that stand for themselves: ports
	known map[string]string // what the document calls by the one is the other here
}

// tokens calls text for what is between the tokens of a line, and token for each.
func tokens(line string, text func(string), token func(kind, token string)) {
	names := varies.SubexpNames()
	last := 0
	for _, m := range varies.FindAllStringSubmatchIndex(line, -1) {
		text(line[last:m[0]])
		last = m[1]
		for i := 1; i < len(names); i++ {
			if m[2*i] >= 0 {
				if names[i] == "job" {
					text(line[m[2*i]:m[2*i+1]])
					continue
				}
				token(names[i], line[m[2*i]:m[2*i+1]])
				break
			}
		}
	}
	text(line[last:])
}

var spaces = regexp.MustCompile(`(?:\\? ){2,}`)

// pattern makes a regular expression of a step's output, and says which of its groups
// stand for which tokens.
func (tr transcript) pattern(output []string) (re *regexp.Regexp, groups []string) {
	var b strings.Builder
	b.WriteString(`\A`)
	for _, line := range output {
		if line == "..." {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		tokens(line, func(text string) {
			// Columns are as wide as what is in them.
			b.WriteString(spaces.ReplaceAllString(regexp.QuoteMeta(text), ` +`))
		}, func(kind, token string) {
			switch actual, ok := tr.known[token]; {
			case loose[kind] != "":
				b.WriteString(loose[kind])
			case tr.fixed[token]:
				b.WriteString(token)
			case ok:
				b.WriteString(regexp.QuoteMeta(actual))
			default:
				groups = append(groups, token)
				b.WriteString("(" + unknown(kind, token) + ")")
			}
		})
		b.WriteString(` *\n`)
	}
	b.WriteString(`\z`)
	return regexp.MustCompile(b.String()), groups
}

// unknown is the pattern of a token that the document has for the first time.
func unknown(kind, token string) string {
	switch kind {
	case "uuid":
		return `[0-9a-f-]{36}`
	case "worker":
		return regexp.QuoteMeta(token[:len(token)-6]) + `[a-z0-9]{6}`
	}
	return `\d+`
}

// match compares, and on success knows what the tokens of the step are called here.
func (tr transcript) match(s step, printed string) error {
	re, groups := tr.pattern(s.output)
	m := re.FindStringSubmatch(printed)
	if m == nil {
		return fmt.Errorf("line %d: $ %s\nthe document says\n%s\n\nit printed\n%s", s.line, s.command, strings.Join(s.output, "\n"), printed)
	}
	learned := maps.Clone(tr.known)
	for i, token := range groups {
		if before, ok := learned[token]; ok && before != m[i+1] {
			return fmt.Errorf("line %d: $ %s\n%s is once %s and once %s in\n%s", s.line, s.command, token, before, m[i+1], printed)
		}
		learned[token] = m[i+1]
	}
	maps.Copy(tr.known, learned)
	return nil
}

// here is a command with the tokens that are known.
func (tr transcript) here(command string) string {
	var b strings.Builder
	tokens(command, func(text string) { b.WriteString(text) }, func(_, token string) {
		if actual, ok := tr.known[token]; ok {
			token = actual
		}
		b.WriteString(token)
	})
	return b.String()
}
